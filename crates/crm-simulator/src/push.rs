//! What a simulated vendor sends by itself. Owns: the form of a call. Must not: send it; whoever
//! steers the vendor does.

/// A call that a vendor makes to an app.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HookCall {
    /// Of HTTP.
    pub method: &'static str,
    /// Where to.
    pub url: String,
    /// With which headers.
    pub headers: Vec<(&'static str, String)>,
    /// The body, exactly.
    pub body: String,
}
