//! The `DELETE` that Pipedrive sends to an app's callback URL when a user of a company uninstalls
//! it. Source: Pipedrive developer documentation, "Handling user app uninstallation".

use chrono::{DateTime, Utc};
use serde::Deserialize;

use crate::crm::vendor::UninstallNotice;

#[derive(Deserialize)]
struct UninstallBody {
    client_id: String,
    company_id: NumberOrText,
    #[serde(default)]
    timestamp: Option<NumberOrText>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum NumberOrText {
    Number(i64),
    Text(String),
}

impl NumberOrText {
    fn number(&self) -> Option<i64> {
        match self {
            Self::Number(number) => Some(*number),
            Self::Text(text) => text.parse().ok(),
        }
    }
}

/// Which company it is. A time in a form that is not known is as good as none.
pub(super) fn read(client_id: &str, body: &[u8]) -> Option<UninstallNotice> {
    let body: UninstallBody = serde_json::from_slice(body).ok()?;
    let company_id = body.company_id.number().filter(|id| *id > 0 && body.client_id == client_id)?.to_string();
    let at = body.timestamp.and_then(|at| match &at {
        NumberOrText::Text(text) if text.parse::<i64>().is_err() => text.parse::<DateTime<Utc>>().ok(),
        number => DateTime::from_timestamp(number.number()?, 0),
    });
    Some(UninstallNotice { company_id, at })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn company_and_time_are_read_as_number_or_text() {
        let at = "2026-11-30T12:00:00Z".parse().ok();
        let read = |company: &str, timestamp: &str| {
            let body = format!(r#"{{"client_id":"c","company_id":{company},"user_id":1{timestamp}}}"#);
            read("c", body.as_bytes()).map(|notice| (notice.company_id, notice.at))
        };

        assert_eq!(read("7000001", r#","timestamp":"2026-11-30T12:00:00.000Z""#), Some(("7000001".into(), at)));
        assert_eq!(read(r#""7000001""#, r#","timestamp":1796040000"#), Some(("7000001".into(), at)));
        assert_eq!(read("7", r#","timestamp":"1796040000""#), Some(("7".into(), at)));
        assert_eq!(read("7", r#","timestamp":"yesterday""#), Some(("7".into(), None)));
        assert_eq!(read("7", ""), Some(("7".into(), None)));
        assert_eq!(read(r#""acme""#, ""), None);
        assert_eq!(super::read("another", br#"{"client_id":"c","company_id":7}"#), None);
        assert_eq!(super::read("c", b"{}"), None);
    }
}
