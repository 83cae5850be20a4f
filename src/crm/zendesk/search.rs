//! Users by a phone number. The index is behind by a few minutes, and finds a number by its end.

use phone_key::PhoneKey;

use super::client::ZendeskClient;
use crate::crm::{CrmError, FOUND_MAX, NumberMatches, http};

impl ZendeskClient {
    /// Those who have the number, as far as the index knows. `include` is one of the reference's
    /// parameters, and it does not say of what: whoever comes without the identities is only
    /// named. What could not be read is told when they are read by their ids.
    pub(super) async fn search(&self, key: PhoneKey) -> Result<NumberMatches, CrmError> {
        let (term, per_page) = (format!("phone:*{}", key.national_digits()), FOUND_MAX.to_string());
        let query = [("query", term.as_str()), ("include", "identities"), ("per_page", &per_page)];
        let (body, _) = self.ask("/api/v2/users/search", &query, http::SMALL_BODY_BYTES_MAX).await?;
        let page = self.read_page(body).await?;
        let lacking: Vec<String> = page.without_identities.iter().map(u64::to_string).collect();
        let mut matches = NumberMatches::default();
        for record in page.records.into_iter().filter(|user| !user.is_gone).take(FOUND_MAX) {
            if lacking.contains(&record.key.record_id) {
                matches.named.push(record.key);
            } else {
                matches.shown.push(record);
            }
        }
        Ok(matches)
    }
}
