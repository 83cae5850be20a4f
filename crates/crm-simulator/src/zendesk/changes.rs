//! The changes that Zendesk's calls make to a user: update, delete, restore, delete for good,
//! merge, and identities. Invariant: each is the same whether it comes over HTTP or from inside the
//! process. Where Zendesk's documentation is silent, a [`Quirks`] field says which way the
//! simulator goes.
//!
//! [`Quirks`]: super::Quirks

use chrono::{DateTime, Utc};
use serde_json::Value;

use super::{
    input::{GivenField, IdentityInput, UserInput},
    refusal::ZendeskRefusal,
    state::{State, check_name, non_empty},
    user::{EMAIL, Identity, PHONE, Role, Stamp, User},
};

const NAME_OF_PURGED: &str = "Permanently Deleted User";

const DELETED: ZendeskRefusal =
    ZendeskRefusal::Invalid { field: "base", code: "InvalidValue", problem: "the user is deleted" };
const TAKEN_NUMBER: ZendeskRefusal = ZendeskRefusal::Invalid {
    field: "value",
    code: "DuplicateValue",
    problem: "is already being used by another user",
};

impl State {
    /// Updates a user. `"active": true` restores one that was deleted softly; nothing else can be
    /// done to a deleted user.
    pub(super) fn update(&mut self, id: i64, input: UserInput, now: DateTime<Utc>) -> Result<(), ZendeskRefusal> {
        let stamp = self.stamp(now);
        self.change(id, Some(stamp), |state, user| {
            if user.is_purged {
                return Err(ZendeskRefusal::NotFound);
            }
            if !user.is_active {
                if input.is_active != Some(true) || user.merged_into.is_some() {
                    return Err(DELETED);
                }
                state.restore(user)?;
            }
            state.apply(user, input, stamp)
        })
    }

    fn apply(&mut self, user: &mut User, input: UserInput, stamp: Stamp) -> Result<(), ZendeskRefusal> {
        check_name(&input.name, false)?;
        if let GivenField::Value(name) = input.name {
            user.name = name;
        }
        // An address that comes with an update is added; it becomes the main one only if there was
        // none.
        if let Some(email) = non_empty(input.email)
            && !user.identity_values(EMAIL).any(|known| known.eq_ignore_ascii_case(&email))
        {
            let identity = IdentityInput { kind: Some(EMAIL), value: Some(email.clone()), ..IdentityInput::default() };
            self.push_identity(user, &identity, stamp);
            user.email.get_or_insert(email);
        }
        match input.phone {
            GivenField::Absent => {}
            phone => self.set_phone(user, non_empty(phone), stamp)?,
        }
        user.role = input.role.unwrap_or(user.role);
        user.is_suspended = input.is_suspended.unwrap_or(user.is_suspended);
        user.is_verified = input.is_verified.unwrap_or(user.is_verified);
        match input.organization_id {
            GivenField::Absent => {}
            organization_id => user.organization_id = organization_id.value(),
        }
        match input.external_id {
            GivenField::Absent => {}
            external_id => user.external_id = non_empty(external_id),
        }
        let mut rest = input.rest;
        // Custom fields that are not named keep their values.
        if let (Some(Value::Object(given)), Some(Value::Object(known))) =
            (rest.get_mut("user_fields"), user.rest.get_mut("user_fields"))
        {
            known.append(given);
            rest.remove("user_fields");
        }
        user.rest.extend(rest);
        self.check_unique(user)
    }

    /// Brings a user back that is not in the indexes now. Numbers that others have taken meanwhile
    /// are no longer direct lines.
    fn restore(&mut self, user: &mut User) -> Result<(), ZendeskRefusal> {
        self.check_unique(user)?;
        user.identities.retain(|identity| identity.kind != PHONE || !self.is_number_used(&identity.value));
        if let Some(phone) = &user.phone {
            user.is_phone_shared = Some(self.is_number_used(phone));
        }
        user.is_active = true;
        Ok(())
    }

    /// Deletes a user softly.
    pub(super) fn delete(&mut self, id: i64, now: DateTime<Utc>) -> Result<(), ZendeskRefusal> {
        let stamp = self.stamp(now);
        self.change(id, Some(stamp), |_, user| {
            if !user.is_active {
                return Err(ZendeskRefusal::NotFound);
            }
            user.is_active = false;
            Ok(())
        })
    }

    /// Deletes a softly deleted user for good.
    pub(super) fn purge(&mut self, id: i64, now: DateTime<Utc>) -> Result<(), ZendeskRefusal> {
        let stamp = self.stamp(now);
        self.change(id, Some(stamp), |_, user| {
            if !user.is_deleted_softly() {
                return Err(ZendeskRefusal::NotFound);
            }
            NAME_OF_PURGED.clone_into(&mut user.name);
            user.email = None;
            user.phone = None;
            user.is_phone_shared = None;
            user.external_id = None;
            user.identities.clear();
            user.rest.clear();
            user.is_purged = true;
            Ok(())
        })
    }

    /// Merges `loser` into `winner`: the loser is deleted, its e-mail addresses become the
    /// winner's. It cannot be undone.
    pub(super) fn merge(&mut self, loser: i64, winner: i64, now: DateTime<Utc>) -> Result<(), ZendeskRefusal> {
        self.check_merge(loser, winner)?;
        let (loser_stamp, winner_stamp) = (self.stamp(now), self.stamp(now));
        let moves_phones = self.quirks.merge_moves_phones;
        let (moved, phone) = self.change(loser, Some(loser_stamp), |_, user| {
            user.is_active = false;
            user.merged_into = Some(winner);
            user.email = None;
            let goes_along = |identity: &Identity| identity.kind == EMAIL || (moves_phones && identity.kind == PHONE);
            let (moved, kept) = std::mem::take(&mut user.identities).into_iter().partition::<Vec<_>, _>(goes_along);
            user.identities = kept;
            Ok((moved, if moves_phones { user.phone.take() } else { None }))
        })?;
        let winner_stamp = self.quirks.merge_touches_winner.then_some(winner_stamp);
        self.change(winner, winner_stamp, |state, user| {
            for identity in moved {
                let is_primary = identity.kind == EMAIL && user.email.is_none();
                if is_primary {
                    user.email = Some(identity.value.clone());
                }
                user.identities.push(Identity { is_primary, ..identity });
            }
            if user.phone.is_none() && phone.is_some() {
                state.set_phone(user, phone, winner_stamp.unwrap_or(loser_stamp))?;
            }
            Ok(())
        })
    }

    fn check_merge(&self, loser: i64, winner: i64) -> Result<(), ZendeskRefusal> {
        let refused = |problem| Err(ZendeskRefusal::Invalid { field: "base", code: "InvalidValue", problem });
        if loser == winner {
            return refused("a user cannot be merged with itself");
        }
        for id in [loser, winner] {
            let user = self.find(id).filter(|user| user.is_active).ok_or(ZendeskRefusal::NotFound)?;
            if user.role != Role::EndUser {
                return refused("only end users can be merged");
            }
        }
        Ok(())
    }

    /// Adds an identity; a number must be nobody else's.
    pub(super) fn add_identity(
        &mut self,
        user_id: i64,
        input: &IdentityInput,
        now: DateTime<Utc>,
    ) -> Result<i64, ZendeskRefusal> {
        let blank = |field| ZendeskRefusal::Invalid { field, code: "BlankValue", problem: "cannot be blank" };
        let kind = input.kind.ok_or(blank("type"))?;
        let value = input.value.as_deref().filter(|value| !value.is_empty()).ok_or(blank("value"))?;
        self.change_identities(user_id, now, |state, user, stamp| {
            if kind == PHONE && (state.is_number_used(value) || user.identity_values(PHONE).any(|known| known == value))
            {
                return Err(TAKEN_NUMBER);
            }
            if kind == EMAIL && user.identity_values(EMAIL).any(|known| known.eq_ignore_ascii_case(value)) {
                return Err(TAKEN_NUMBER);
            }
            let input = IdentityInput { id: None, kind: Some(kind), value: Some(value.to_owned()), ..*input };
            let id = state.push_identity(user, &input, stamp);
            if kind == EMAIL {
                user.email.get_or_insert_with(|| value.to_owned());
            }
            state.check_unique(user)?;
            Ok(id)
        })
    }

    /// Changes an identity's value or verification. A main address or a direct line that changes
    /// takes the user's field with it.
    pub(super) fn update_identity(
        &mut self,
        user_id: i64,
        id: i64,
        input: &IdentityInput,
        now: DateTime<Utc>,
    ) -> Result<(), ZendeskRefusal> {
        self.change_identities(user_id, now, |state, user, stamp| {
            if let Some(number) = &input.value
                && state.is_number_used(number)
            {
                return Err(TAKEN_NUMBER);
            }
            let identity = identity_of(user, id)?;
            identity.updated_at = stamp;
            identity.is_verified = input.is_verified.unwrap_or(identity.is_verified);
            if let Some(value) = &input.value {
                let old = std::mem::replace(&mut identity.value, value.clone());
                let field = if identity.kind == PHONE { &mut user.phone } else { &mut user.email };
                if field.as_deref() == Some(old.as_str()) {
                    *field = Some(value.clone());
                }
            }
            state.check_unique(user)
        })
    }

    /// Makes an identity the main one of its kind; of an e-mail address it becomes the user's
    /// `email`.
    pub(super) fn make_identity_primary(
        &mut self,
        user_id: i64,
        id: i64,
        now: DateTime<Utc>,
    ) -> Result<(), ZendeskRefusal> {
        self.change_identities(user_id, now, |_, user, stamp| {
            let identity = identity_of(user, id)?;
            let (kind, value) = (identity.kind, identity.value.clone());
            identity.updated_at = stamp;
            for identity in user.identities.iter_mut().filter(|identity| identity.kind == kind) {
                identity.is_primary = identity.id == id;
            }
            if kind == EMAIL {
                user.email = Some(value);
            }
            Ok(())
        })
    }

    /// Deletes an identity. The number of a phone identity stays in the user's `phone`, as Zendesk
    /// warns; the next address becomes the main one.
    pub(super) fn delete_identity(&mut self, user_id: i64, id: i64, now: DateTime<Utc>) -> Result<(), ZendeskRefusal> {
        self.change_identities(user_id, now, |_, user, _| {
            let kind = identity_of(user, id)?.kind;
            user.identities.retain(|identity| identity.id != id);
            if kind == EMAIL {
                let next = user.identities.iter_mut().find(|identity| identity.kind == EMAIL);
                user.email = next.map(|identity| {
                    identity.is_primary = true;
                    identity.value.clone()
                });
            }
            Ok(())
        })
    }

    fn change_identities<T>(
        &mut self,
        user_id: i64,
        now: DateTime<Utc>,
        change: impl FnOnce(&mut Self, &mut User, Stamp) -> Result<T, ZendeskRefusal>,
    ) -> Result<T, ZendeskRefusal> {
        let stamp = self.stamp(now);
        let user_stamp = self.quirks.identity_change_touches_user.then_some(stamp);
        self.change(user_id, user_stamp, |state, user| {
            if user.is_active { change(state, user, stamp) } else { Err(ZendeskRefusal::NotFound) }
        })
    }
}

fn identity_of(user: &mut User, id: i64) -> Result<&mut Identity, ZendeskRefusal> {
    user.identities.iter_mut().find(|identity| identity.id == id).ok_or(ZendeskRefusal::NotFound)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::zendesk::Quirks;

    fn input(value: &Value) -> UserInput {
        UserInput::read(value.as_object().unwrap()).unwrap()
    }

    fn now() -> DateTime<Utc> {
        DateTime::from_timestamp(1_790_000_000, 0).unwrap()
    }

    fn create(state: &mut State, value: &Value) -> i64 {
        state.create(input(value), now()).unwrap()
    }

    fn phones(state: &State, id: i64) -> Vec<&str> {
        state.find(id).unwrap().identity_values(PHONE).collect()
    }

    /// A number that nobody has is a direct line, and the next user with it shares it.
    #[test]
    fn unowned_number_is_direct_line_then_shared() {
        let mut state = State::new(Quirks::default());

        let first = create(&mut state, &json!({"name": "Ann", "phone": "+15550100"}));
        let second = create(&mut state, &json!({"name": "Bob", "phone": "+15550100"}));

        assert_eq!(phones(&state, first), ["+15550100"]);
        assert_eq!(state.find(first).unwrap().is_phone_shared, Some(false));
        assert!(phones(&state, second).is_empty());
        assert_eq!(state.find(second).unwrap().is_phone_shared, Some(true));
    }

    /// A deleted user frees address and number, and a restore wants them back.
    #[test]
    fn deleted_user_frees_address_restore_wants_it_back() {
        let mut state = State::new(Quirks::default());
        let ann = create(&mut state, &json!({"name": "Ann", "email": "ann@example.com", "phone": "1"}));
        state.delete(ann, now()).unwrap();

        let bob = create(&mut state, &json!({"name": "Bob", "phone": "1"}));
        state.update(ann, input(&json!({"active": true})), now()).unwrap();

        assert_eq!(phones(&state, bob), ["1"]);
        assert!(phones(&state, ann).is_empty());
        assert_eq!(state.find(ann).unwrap().is_phone_shared, Some(true));
        state.delete(ann, now()).unwrap();
        create(&mut state, &json!({"name": "Eve", "email": "Ann@Example.com"}));
        let refused = state.update(ann, input(&json!({"active": true})), now());
        assert!(matches!(refused, Err(ZendeskRefusal::Invalid { field: "email", .. })));
        assert!(!state.find(ann).unwrap().is_active);
    }

    #[test]
    fn failed_change_leaves_everything_as_it_was() {
        let mut state = State::new(Quirks::default());
        let ann = create(&mut state, &json!({"name": "Ann", "external_id": "A"}));
        let bob = create(&mut state, &json!({"name": "Bob", "phone": "1"}));
        let before = state.find(bob).unwrap().updated_at;

        let refused = state.update(bob, input(&json!({"phone": "2", "external_id": "a"})), now());

        assert!(refused.is_err());
        assert_eq!(state.find(bob).unwrap().phone.as_deref(), Some("1"));
        assert_eq!(state.find(bob).unwrap().updated_at, before);
        assert_eq!(state.by_update().len(), 2);
        assert_eq!(state.external_id_owner("a"), Some(ann));
    }

    /// A merge deletes the loser for ever and moves its addresses to the winner.
    #[test]
    fn merge_deletes_loser_forever_and_moves_addresses() {
        let mut state = State::new(Quirks::default());
        let loser = create(&mut state, &json!({"name": "Ann", "email": "a@example.com", "phone": "1"}));
        let winner = create(&mut state, &json!({"name": "Ann D", "phone": "2"}));

        state.merge(loser, winner, now()).unwrap();

        let (lost, won) = (state.find(loser).unwrap(), state.find(winner).unwrap());
        assert!(!lost.is_active && lost.merged_into == Some(winner));
        assert_eq!(won.email.as_deref(), Some("a@example.com"));
        assert_eq!(won.phone.as_deref(), Some("2"));
        assert!(state.update(loser, input(&json!({"active": true})), now()).is_err());
        assert!(state.merge(winner, winner, now()).is_err());
    }

    #[test]
    fn agents_are_not_merged() {
        let mut state = State::new(Quirks::default());
        let agent = create(&mut state, &json!({"name": "Ann", "role": "agent"}));
        let user = create(&mut state, &json!({"name": "Bob"}));

        assert!(state.merge(agent, user, now()).is_err());
        assert!(state.merge(user, agent, now()).is_err());
        assert!(state.find(user).unwrap().is_active);
    }

    /// A deleted phone identity leaves the number in the user's phone field.
    #[test]
    fn deleted_phone_identity_leaves_number_in_field() {
        let mut state = State::new(Quirks::default());
        let ann = create(&mut state, &json!({"name": "Ann", "phone": "1"}));
        let identity = state.find(ann).unwrap().identities[0].id;

        state.delete_identity(ann, identity, now()).unwrap();

        assert!(phones(&state, ann).is_empty());
        assert_eq!(state.find(ann).unwrap().phone.as_deref(), Some("1"));
    }

    #[test]
    fn changes_in_one_instant_keep_their_order() {
        let mut state = State::new(Quirks::default());
        let ids: Vec<i64> = (0..3).map(|number| create(&mut state, &json!({"name": format!("U{number}")}))).collect();

        state.update(ids[0], input(&json!({"notes": "x"})), now()).unwrap();

        let order: Vec<i64> = state.by_update().iter().map(|(_, id)| *id).collect();
        assert_eq!(order, [ids[1], ids[2], ids[0]]);
    }
}
