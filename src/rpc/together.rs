//! Parts of a request that are read together, so that everything that is wrong with it is told at
//! once.

use tonic::Status;

use super::status;

/// Several parts, each read or refused.
pub(super) trait ReadTogether {
    /// Each, read.
    type Parts;

    /// All of them, or one refusal that names every wrong field.
    fn together(self) -> Result<Self::Parts, Status>;
}

macro_rules! together {
    ($($part:ident $index:tt),+) => {
        impl<$($part),+> ReadTogether for ($(Result<$part, Status>,)+) {
            type Parts = ($($part,)+);

            fn together(self) -> Result<Self::Parts, Status> {
                let refused: Vec<&Status> = [$(self.$index.as_ref().err()),+].into_iter().flatten().collect();
                if !refused.is_empty() {
                    return Err(status::one_of(&refused));
                }
                Ok(($(self.$index?,)+))
            }
        }
    };
}

together!(A 0, B 1);
together!(A 0, B 1, C 2);
together!(A 0, B 1, C 2, D 3);
together!(A 0, B 1, C 2, D 3, E 4);
together!(A 0, B 1, C 2, D 3, E 4, F 5);
together!(A 0, B 1, C 2, D 3, E 4, F 5, G 6);

/// Each of a list, read or refused.
pub(super) fn all<T>(parts: impl Iterator<Item = Result<T, Status>>) -> Result<Vec<T>, Status> {
    let (read, refused): (Vec<_>, Vec<_>) = parts.partition(Result::is_ok);
    let refused: Vec<Status> = refused.into_iter().filter_map(Result::err).collect();
    if refused.is_empty() {
        return Ok(read.into_iter().flatten().collect());
    }
    Err(status::one_of(&refused.iter().collect::<Vec<_>>()))
}

#[cfg(test)]
mod tests {
    use tonic::Code;
    use tonic_types::StatusExt;

    use super::*;

    fn wrong(field: &str) -> Result<u8, Status> {
        Err(status::invalid(field, "must be right"))
    }

    fn fields(status: &Status) -> Vec<String> {
        status.get_details_bad_request().unwrap().field_violations.into_iter().map(|wrong| wrong.field).collect()
    }

    #[test]
    fn every_wrong_field_is_told_at_once() {
        let refused = (wrong("a"), Ok(1), (wrong("b.x"), wrong("b.y")).together()).together().unwrap_err();

        assert_eq!(refused.code(), Code::InvalidArgument);
        assert_eq!(refused.message(), "a: must be right; b.x: must be right; b.y: must be right");
        assert_eq!(fields(&refused), ["a", "b.x", "b.y"]);
        assert_eq!(refused.get_details_error_info().unwrap().reason, "INVALID_ARGUMENT");
    }

    #[test]
    fn who_may_not_ask_hears_nothing_of_fields() {
        let unknown: Result<u8, Status> = Err(status::account_not_found());

        let refused = (wrong("a"), unknown).together().unwrap_err();

        assert_eq!(refused.code(), Code::NotFound);
    }

    #[test]
    fn all_that_is_right_is_read() {
        let none: Result<u8, Status> = Ok(2);

        assert_eq!((Ok(1), none).together().unwrap(), (1, 2));
        assert_eq!(all([Ok(1), Ok(2)].into_iter()).unwrap(), [1, 2]);
        assert_eq!(fields(&all([wrong("r[0]"), Ok(1), wrong("r[2]")].into_iter()).unwrap_err()), ["r[0]", "r[2]"]);
    }

    /// A request that is wrong all over is told as much as fits.
    #[test]
    fn wholly_wrong_request_is_told_what_fits() {
        let long = "x".repeat(200);
        let refused = all((0..100).map(|_| wrong(&long))).unwrap_err();

        assert!(refused.details().len() < 4096 && (5..20).contains(&fields(&refused).len()));
    }
}
