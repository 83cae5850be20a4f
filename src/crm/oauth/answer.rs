//! An answer with tokens. What of it is a vendor's own is asked for by name.

use std::{collections::BTreeMap, fmt};

use oauth2::ExtraTokenFields;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::crm::CrmError;

/// What is said of an answer that is none with tokens.
pub(super) const NO_TOKENS: CrmError =
    CrmError::Unreadable("it is not the answer with tokens that the vendor documents");

/// The tokens, and what else a vendor says with them.
#[derive(Deserialize)]
pub(in crate::crm) struct TokenAnswer {
    pub(super) access_token: String,
    pub(super) refresh_token: Option<String>,
    pub(super) expires_in: Option<u64>,
    #[serde(flatten)]
    pub(super) own_fields: VendorFields,
}

/// What the tokens allow (RFC 6749 §5.1).
const SCOPE: &str = "scope";
/// Longer is no list of scopes, bytes.
const SCOPES_BYTES_MAX: usize = 1_000;

impl TokenAnswer {
    /// What the tokens allow, if the vendor says so.
    pub(super) fn scopes(&self) -> Option<&str> {
        let text = self.own_fields.0.get(SCOPE)?.as_str()?;
        (1..=SCOPES_BYTES_MAX).contains(&text.len()).then_some(text)
    }

    /// A field of the vendor's own; an error: it is there, and is no text.
    pub(in crate::crm) fn text(&self, name: &str) -> Result<Option<&str>, CrmError> {
        match self.own_fields.0.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => value.as_str().map(Some).ok_or(NO_TOKENS),
        }
    }
}

/// The vendor's own fields, by name.
#[derive(Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct VendorFields(BTreeMap<String, Value>);

impl VendorFields {
    /// With the scopes, which are read apart of an answer that keeps to the standard.
    pub(super) fn with_scopes(mut self, scopes: Option<String>) -> Self {
        self.0.extend(scopes.map(|scopes| (SCOPE.to_owned(), scopes.into())));
        self
    }
}

impl ExtraTokenFields for VendorFields {}

/// They may hold anything, tokens too.
impl fmt::Debug for VendorFields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VendorFields").finish_non_exhaustive()
    }
}
