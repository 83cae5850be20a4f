//! The account's users and everything that changes them. Owns: the users, the order of their
//! changes, who owns which address and number. Invariant: every change goes through
//! [`State::change`], [`State::insert_new`] or a load, so that indexes and users agree; every
//! change made by a call has a stamp of its own, later than all before it, so that no change can
//! hide behind a cursor.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use chrono::{DateTime, Utc};

use super::{
    Quirks,
    input::{GivenField, IdentityInput, UserInput},
    refusal::ZendeskRefusal,
    user::{EMAIL, Identity, PHONE, Role, Stamp, User},
};

/// Older copies of changed users that are kept for the fault that sends them again.
const PREVIOUS_MAX: usize = 10_000;
/// Users of one account, removed ones included.
const USERS_MAX: usize = 5_000_000;
/// The first ids, of the size that Zendesk's have.
const FIRST_USER_ID: i64 = 1_900_000_000_001;
const FIRST_IDENTITY_ID: i64 = 2_900_000_000_001;

/// Who has a number, among the active users.
#[derive(Default)]
struct NumberUse {
    /// Users with this number in `phone` or as an identity.
    users: u32,
    /// The user for whom it is an identity: a direct line.
    owner: Option<i64>,
}

pub(super) struct State {
    pub(super) quirks: Quirks,
    users: BTreeMap<i64, User>,
    by_update: BTreeSet<(Stamp, i64)>,
    /// Owner of each e-mail address (lower case), among the active users.
    emails: HashMap<String, i64>,
    numbers: HashMap<String, NumberUse>,
    /// Owner of each external id (lower case), among the active users.
    external_ids: HashMap<String, i64>,
    next_user_id: i64,
    next_identity_id: i64,
    last_stamp: Stamp,
    previous: BTreeMap<i64, User>,
    last_changed: Option<i64>,
    active_count: usize,
}

impl State {
    pub(super) fn new(quirks: Quirks) -> Self {
        Self {
            quirks,
            users: BTreeMap::new(),
            by_update: BTreeSet::new(),
            emails: HashMap::new(),
            numbers: HashMap::new(),
            external_ids: HashMap::new(),
            next_user_id: FIRST_USER_ID,
            next_identity_id: FIRST_IDENTITY_ID,
            last_stamp: 0,
            previous: BTreeMap::new(),
            last_changed: None,
            active_count: 0,
        }
    }

    // Reading.

    pub(super) fn find(&self, id: i64) -> Option<&User> {
        self.users.get(&id)
    }

    /// All users by id, removed ones included.
    pub(super) fn users(&self) -> &BTreeMap<i64, User> {
        &self.users
    }

    /// The export's order: all users by their last change.
    pub(super) fn by_update(&self) -> &BTreeSet<(Stamp, i64)> {
        &self.by_update
    }

    pub(super) fn active_count(&self) -> usize {
        self.active_count
    }

    pub(super) fn email_owner(&self, email: &str) -> Option<i64> {
        self.emails.get(&email.to_lowercase()).copied()
    }

    pub(super) fn external_id_owner(&self, external_id: &str) -> Option<i64> {
        self.external_ids.get(&external_id.to_lowercase()).copied()
    }

    pub(super) fn is_number_used(&self, number: &str) -> bool {
        self.numbers.contains_key(number)
    }

    /// The copy of a user before its newest change; of the user changed last if no id is given.
    pub(super) fn previous_copy(&self, id: Option<i64>) -> Option<&User> {
        self.previous.get(&id.or(self.last_changed)?)
    }

    // Changing.

    /// A new stamp, later than every one before it even if the clock stands still.
    pub(super) fn stamp(&mut self, now: DateTime<Utc>) -> Stamp {
        self.last_stamp = now.timestamp_micros().max(self.last_stamp + 1);
        self.last_stamp
    }

    pub(super) fn take_identity_id(&mut self) -> i64 {
        self.next_identity_id += 1;
        self.next_identity_id - 1
    }

    /// Creates a user as the API does.
    pub(super) fn create(&mut self, input: UserInput, now: DateTime<Utc>) -> Result<i64, ZendeskRefusal> {
        check_name(&input.name, true)?;
        let stamp = self.stamp(now);
        // A caller has no say in these.
        let input =
            UserInput { id: None, is_active: None, is_phone_shared: None, created_at: None, updated_at: None, ..input };
        let user = self.assemble(input, stamp)?;
        self.check_unique(&user)?;
        self.check_direct_lines(&user)?;
        self.insert_new(user)
    }

    /// Takes a user as it is said to be: times, id, state. `fallback` is its time of creation if it
    /// has none. The identities of such a user may contradict Zendesk's rules on direct lines.
    pub(super) fn load(&mut self, input: UserInput, fallback: Stamp) -> Result<i64, ZendeskRefusal> {
        let user = self.assemble(input, fallback)?;
        if user.is_active {
            self.check_unique(&user)?;
        }
        self.insert_new(user)
    }

    /// Changes one user. The closure sees the account without it, and may fail: then nothing has
    /// changed.
    pub(super) fn change<T>(
        &mut self,
        id: i64,
        stamp: Option<Stamp>,
        change: impl FnOnce(&mut Self, &mut User) -> Result<T, ZendeskRefusal>,
    ) -> Result<T, ZendeskRefusal> {
        let old = self.users.remove(&id).ok_or(ZendeskRefusal::NotFound)?;
        self.unindex(&old);
        let mut new = old.clone();
        let outcome = change(self, &mut new);
        if outcome.is_err() {
            self.insert(old);
            return outcome;
        }
        if let Some(stamp) = stamp {
            new.updated_at = stamp;
        }
        if self.previous.len() >= PREVIOUS_MAX {
            self.previous.pop_first();
        }
        self.previous.insert(id, old);
        self.last_changed = Some(id);
        self.insert(new);
        outcome
    }

    fn insert_new(&mut self, user: User) -> Result<i64, ZendeskRefusal> {
        if self.users.contains_key(&user.id) {
            return Err(ZendeskRefusal::Invalid {
                field: "id",
                code: "DuplicateValue",
                problem: "is already being used by another user",
            });
        }
        if self.users.len() >= USERS_MAX {
            return Err(ZendeskRefusal::Invalid {
                field: "base",
                code: "LimitExceeded",
                problem: "the account holds 5,000,000 users at most",
            });
        }
        let id = user.id;
        self.next_user_id = self.next_user_id.max(id.saturating_add(1));
        self.insert(user);
        Ok(id)
    }

    fn assemble(&mut self, input: UserInput, fallback: Stamp) -> Result<User, ZendeskRefusal> {
        let created_at = input.created_at.or(input.updated_at).unwrap_or(fallback);
        let email = non_empty(input.email);
        let phone = non_empty(input.phone);
        let mut user = User {
            id: input.id.unwrap_or(self.next_user_id),
            name: String::new(),
            email: None,
            phone: None,
            is_phone_shared: None,
            role: input.role.unwrap_or(Role::EndUser),
            is_active: input.is_active.unwrap_or(true),
            is_suspended: input.is_suspended.unwrap_or(false),
            is_verified: input.is_verified.unwrap_or(false),
            organization_id: input.organization_id.value(),
            external_id: non_empty(input.external_id),
            created_at,
            updated_at: input.updated_at.unwrap_or(created_at),
            identities: Vec::new(),
            merged_into: None,
            is_purged: false,
            rest: input.rest,
        };
        let is_complete = input.are_identities_complete;
        for identity in input.identities.unwrap_or_default() {
            self.push_identity(&mut user, &identity, created_at);
        }
        user.email = email.or_else(|| user.identity_values(EMAIL).next().map(str::to_owned));
        if let Some(email) = user.email.clone()
            && !user.identity_values(EMAIL).any(|value| value.eq_ignore_ascii_case(&email))
        {
            let identity = IdentityInput {
                kind: Some(EMAIL),
                value: Some(email),
                is_verified: input.is_verified,
                ..IdentityInput::default()
            };
            self.push_identity(&mut user, &identity, created_at);
        }
        match (phone, input.is_phone_shared, is_complete) {
            // Whoever gives the identities or the flag knows better than the rule.
            (Some(phone), is_shared, true) => {
                let is_identity = user.identity_values(PHONE).any(|value| value == phone);
                user.is_phone_shared = Some(is_shared.unwrap_or(!is_identity && self.is_number_used(&phone)));
                user.phone = Some(phone);
            }
            (Some(phone), Some(true), false) => {
                user.is_phone_shared = Some(true);
                user.phone = Some(phone);
            }
            (phone, _, _) => self.set_phone(&mut user, phone, created_at)?,
        }
        user.name = match non_empty(input.name) {
            Some(name) => name,
            None => user.email.clone().unwrap_or_else(|| format!("User {}", user.id)),
        };
        Ok(user)
    }

    /// Adds an identity to a user that is not in the indexes now.
    pub(super) fn push_identity(&mut self, user: &mut User, input: &IdentityInput, stamp: Stamp) -> i64 {
        let kind = input.kind.unwrap_or(EMAIL);
        let id = input.id.unwrap_or_else(|| self.take_identity_id());
        let is_first = !user.identities.iter().any(|identity| identity.kind == kind);
        user.identities.push(Identity {
            id,
            kind,
            value: input.value.clone().unwrap_or_default(),
            is_primary: input.is_primary.unwrap_or(is_first),
            is_verified: input.is_verified.unwrap_or(false),
            created_at: stamp,
            updated_at: stamp,
        });
        id
    }

    /// Gives a user, not in the indexes now, another main number. A number that nobody has becomes
    /// a direct line, an identity of this user; one that somebody has is shared, and no identity.
    pub(super) fn set_phone(
        &mut self,
        user: &mut User,
        phone: Option<String>,
        stamp: Stamp,
    ) -> Result<(), ZendeskRefusal> {
        if phone == user.phone && phone.is_some() {
            return Ok(());
        }
        if let Some(phone) = &phone {
            self.check_phone(phone)?;
        }
        if let Some(old) = user.phone.take() {
            user.identities.retain(|identity| !(identity.kind == PHONE && identity.value == old));
        }
        user.is_phone_shared = phone.as_ref().map(|phone| self.is_number_used(phone));
        if let Some(phone) = &phone
            && user.is_phone_shared == Some(false)
            && !user.identity_values(PHONE).any(|value| value == phone)
        {
            let identity = IdentityInput { kind: Some(PHONE), value: Some(phone.clone()), ..IdentityInput::default() };
            self.push_identity(user, &identity, stamp);
        }
        user.phone = phone;
        Ok(())
    }

    pub(super) fn check_phone(&self, phone: &str) -> Result<(), ZendeskRefusal> {
        let digits = phone.strip_prefix('+').unwrap_or_default();
        let is_e164 = (8..=15).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit());
        if self.quirks.validates_phones && !is_e164 {
            return Err(ZendeskRefusal::Invalid {
                field: "phone",
                code: "InvalidFormat",
                problem: "is not properly formatted",
            });
        }
        Ok(())
    }

    /// The addresses and the external id of a user, not in the indexes now, must be nobody else's.
    pub(super) fn check_unique(&self, user: &User) -> Result<(), ZendeskRefusal> {
        let taken = |field| {
            Err(ZendeskRefusal::Invalid {
                field,
                code: "DuplicateValue",
                problem: "is already being used by another user",
            })
        };
        if user.identity_values(EMAIL).any(|email| self.email_owner(email).is_some()) {
            return taken("email");
        }
        if user.external_id.as_deref().is_some_and(|external_id| self.external_id_owner(external_id).is_some()) {
            return taken("external_id");
        }
        Ok(())
    }

    fn check_direct_lines(&self, user: &User) -> Result<(), ZendeskRefusal> {
        if user.identity_values(PHONE).any(|number| self.is_number_used(number)) {
            return Err(ZendeskRefusal::Invalid {
                field: "phone",
                code: "DuplicateValue",
                problem: "is already being used by another user",
            });
        }
        Ok(())
    }

    fn insert(&mut self, user: User) {
        if !user.is_purged || self.quirks.exports_purged_users {
            self.by_update.insert(user.export_key());
        }
        if user.is_active {
            self.active_count += 1;
            for email in user.identity_values(EMAIL) {
                self.emails.insert(email.to_lowercase(), user.id);
            }
            for number in user.numbers() {
                let number_use = self.numbers.entry(number.to_owned()).or_default();
                number_use.users += 1;
                if number_use.owner.is_none() && user.identity_values(PHONE).any(|value| value == number) {
                    number_use.owner = Some(user.id);
                }
            }
            if let Some(external_id) = &user.external_id {
                self.external_ids.insert(external_id.to_lowercase(), user.id);
            }
        }
        self.users.insert(user.id, user);
    }

    fn unindex(&mut self, user: &User) {
        self.by_update.remove(&user.export_key());
        if !user.is_active {
            return;
        }
        self.active_count -= 1;
        for email in user.identity_values(EMAIL) {
            self.emails.remove(&email.to_lowercase());
        }
        for number in user.numbers() {
            if let Some(number_use) = self.numbers.get_mut(number) {
                number_use.users -= 1;
                if number_use.owner == Some(user.id) {
                    number_use.owner = None;
                }
                if number_use.users == 0 {
                    self.numbers.remove(number);
                }
            }
        }
        if let Some(external_id) = &user.external_id {
            self.external_ids.remove(&external_id.to_lowercase());
        }
    }
}

/// A name that is given must say something; one that is `required` must be given.
pub(super) fn check_name(name: &GivenField<String>, required: bool) -> Result<(), ZendeskRefusal> {
    let is_blank = match name {
        GivenField::Absent => required,
        GivenField::Null => true,
        GivenField::Value(name) => name.trim().is_empty(),
    };
    if is_blank {
        return Err(ZendeskRefusal::Invalid { field: "name", code: "BlankValue", problem: "cannot be blank" });
    }
    Ok(())
}

/// Zendesk takes an empty text for no text.
pub(super) fn non_empty(given: GivenField<String>) -> Option<String> {
    given.value().filter(|text| !text.is_empty())
}
