//! Users by a phone number. The index is behind by a few minutes, and finds a number by its end.

use phone_key::PhoneKey;

use super::client::ZendeskClient;
use crate::{
    crm::{CrmError, FOUND_MAX, http},
    domain::record::RecordKey,
};

impl ZendeskClient {
    /// Those who have the number, as far as the index knows. Numbers of their identities come when
    /// they are read.
    pub(super) async fn search(&self, key: PhoneKey) -> Result<Vec<RecordKey>, CrmError> {
        let (term, per_page) = (format!("phone:*{}", key.national_digits()), FOUND_MAX.to_string());
        let query = [("query", term.as_str()), ("per_page", &per_page)];
        let (body, _) = self.ask("/api/v2/users/search", &query, http::SMALL_BODY_BYTES_MAX).await?;
        let users = self.read_page(body).await?.records.into_iter();
        Ok(users.filter(|user| !user.is_gone).map(|user| user.key).take(FOUND_MAX).collect())
    }
}
