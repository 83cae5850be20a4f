//! What a person at a terminal is told of a refusal: the flag instead of the API's field, the
//! command instead of the API's method, and what to do next. Owns these words and nothing else;
//! `tests` hold them against every reason and field that the service has.

use std::collections::HashMap;

use tonic::Code;

/// A refusal as the command line says it.
struct Advice {
    reason: &'static str,
    /// Instead of the server's message, where that speaks of what only the API has.
    message: Option<&'static str>,
    /// What to do; `{name}` stands for an entry of the error's metadata.
    next: &'static str,
}

const fn next(reason: &'static str, next: &'static str) -> Advice {
    Advice { reason, message: None, next }
}

const fn told(reason: &'static str, message: &'static str, next: &'static str) -> Advice {
    Advice { reason, message: Some(message), next }
}

const TRY_AGAIN: &str = "try again in a moment; if it stays, see the server's log";
const LOG: &str = "the server's log tells what went wrong, under this request_id";
const CLAIMS: &str =
    "the token is of an identity provider that the server is set up for otherwise: docs/identity-providers.md";
const VERSIONS: &str = "server and client are of different versions; `contact-sync --version` tells the client's";

/// What helps against every reason.
const ADVICE: [Advice; 65] = [
    next(
        "ACCOUNT_NOT_FOUND",
        "`contact-sync account list` shows the accounts that this token may use; name one with --account or CONTACT_SYNC_ACCOUNT",
    ),
    told(
        "ACCOUNT_EXISTS",
        "there is an account with this --id and other content",
        "`contact-sync account update ID` changes it; without --id a new one is made",
    ),
    next("ANSWER_TOO_LARGE", "ask for less at once, such as with --limit 100"),
    next("APP_UNINSTALLED", "let its administrator install the app and authorize it: `contact-sync sync authorize`"),
    told(
        "CALL_ID_REUSED",
        "this --call-id was used for a call from another number",
        "give each call a --call-id of its own; a repeat of the same call has the same number",
    ),
    next(
        "CALL_NOT_FOUND",
        "`contact-sync match --call-id ID NUMBER` makes the call known, and with --agent says whose it is: with the scope clicks it must \
         be the agent's own",
    ),
    next(
        "CHANGES_FORGOTTEN",
        "list the contacts anew, then `contact-sync changes --after {forgotten_through}` goes on from there",
    ),
    told(
        "CONTACT_HAS_RECORD",
        "the contact of --contact has a record already",
        "leave --contact out, or give the contact that `contact-sync match` made for the call",
    ),
    told(
        "CONTACT_NOT_FOUND",
        "there is no contact with this id in this account, or it does not live any more",
        "`contact-sync contact --number NUMBER` lists who has a number, `contact-sync contact ID` shows deleted ones, too, unless it is \
         unknown here; --account says in which account",
    ),
    next(
        "CREDENTIALS_REFUSED",
        "check the token (and the --email of an API token) in the CRM; `contact-sync sync test` tries them",
    ),
    next("CRM_ACCOUNT_CLOSED", "its administrator must open it; `contact-sync sync test` tries again"),
    next(
        "CRM_ANSWER_UNREADABLE",
        "try again; if it stays, report it with this message and the server's log, which says more",
    ),
    next("CRM_HOST_MISSING", "give --salesforce-host: My Domain, such as acme.my.salesforce.com"),
    next(
        "CRM_HOST_MOVED",
        "compare --zendesk, --salesforce-host or --pipedrive with the address that agents use now; then \
         `contact-sync sync credentials` brings the credentials again with it",
    ),
    next("CRM_UNREACHABLE", "see the CRM's status page, then the server's log; `contact-sync sync test` tries again"),
    next(
        "DAILY_LIMIT",
        "wait: it goes on by itself; if it lasts, see which program takes the CRM's requests, or choose a longer --period",
    ),
    next("DATABASE_UNAVAILABLE", TRY_AGAIN),
    next(
        "DEADLINE_EXCEEDED",
        "the server did not answer in time; see its log, and try again: every call may be repeated",
    ),
    next(
        "FEED_RESET",
        "the database was restored from a backup: list the contacts anew, then go on with --epoch {epoch} --after {position}",
    ),
    next(
        "FIELD_UNKNOWN",
        "`contact-sync sync test` lists the text fields that there are; name those that hold phone numbers with --phone-field",
    ),
    next(
        "GRANT_REFUSED",
        "let its administrator authorize it again: `contact-sync sync authorize`, or bring other credentials: \
         `contact-sync sync credentials`",
    ),
    told(
        "HELD_DELETIONS_CHANGED",
        "another number of deletions is held back by now than --held says",
        "look in the CRM again, then `contact-sync sync confirm-deletions --held {held_deletions}`",
    ),
    told(
        "INTEGRATION_DISABLED",
        "the integration is disabled",
        "`contact-sync sync enable` takes it up again, with its contacts",
    ),
    told(
        "INTEGRATION_EXISTS",
        "this organisation is linked to the account already",
        "`contact-sync sync credentials --integration {integration_id}` brings new credentials; `sync trigger` copies now, \
         `sync on` and `sync off` switch, `sync status` shows it",
    ),
    next(
        "INTEGRATION_NOT_FOUND",
        "`contact-sync sync status` shows the account's integrations; --account says in which account",
    ),
    next(
        "HEADERS_TOO_LARGE",
        "give a token of usual length: that of --token-file or CONTACT_SYNC_TOKEN is far too long",
    ),
    next("INTERNAL", LOG),
    next("MESSAGE_TOO_LARGE", "send less: a value of the command line is far too long"),
    next("MESSAGE_UNREADABLE", VERSIONS),
    next("METHOD_NOT_SERVED", VERSIONS),
    next("NO_DELETIONS_HELD", "`contact-sync sync status --integration ID` says whether a sweep waits"),
    next(
        "OAUTH_CLIENT_REFUSED",
        "compare the client id in the environment (SALESFORCE_CLIENT_ID and the like; and its CLIENT_SECRET, which JWT does without) with the \
         app's page in the CRM, and see that the app allows this way of logging in",
    ),
    next(
        "OAUTH_NOT_CONFIGURED",
        "the server's operator sets what the message names and starts it again; or bring credentials: `contact-sync sync enable --help`",
    ),
    next(
        "ORGANIZATION_NOT_FOUND",
        "compare --zendesk, --pipedrive or --salesforce-host with the address that agents use in their browser",
    ),
    next(
        "OTHER_ORGANIZATION",
        "name the organisation that they open, {organization}, or bring the credentials of the one that you named",
    ),
    next("OVERLOADED", TRY_AGAIN),
    next(
        "PERMISSION_MISSING",
        "give the CRM's user what the message names, or bring the credentials of another; `contact-sync sync test` tries them",
    ),
    next(
        "PRIVATE_KEY_UNUSABLE",
        "give --jwt-key-file an RSA key in PEM form: `openssl genrsa -out FILE 2048` makes one, docs/connecting-salesforce.md how to \
         make its certificate",
    ),
    told(
        "PURGE_RUNNING",
        "the contacts that were copied before are still being removed",
        "`contact-sync sync status --integration ID` says when that is over; enable it then",
    ),
    next("RATE_LIMITED", "wait: the CRM answers again in a while, and a run waits by itself"),
    next(
        "RECORD_GONE",
        "restore the record in the CRM and `contact-sync sync trigger`, or register the one that is left",
    ),
    next(
        "REFRESH_INTERRUPTED",
        "let its administrator authorize it again: `contact-sync sync authorize --integration ID`",
    ),
    next("REQUEST_ID_REUSED", TRY_AGAIN),
    next("REQUEST_INCOMPLETE", TRY_AGAIN),
    next("RUN_FINISHED", "`contact-sync sync status --integration ID` shows the newest runs"),
    next(
        "SCOPE_MISSING",
        "use a token with one of these scopes: {scopes}; `contact-sync token --scope {scope}` issues one, where the server's key is",
    ),
    next("SERVICE_NOT_FOUND", VERSIONS),
    next("SHUTTING_DOWN", TRY_AGAIN),
    told(
        "SYNC_OFF",
        "sync of this integration is off",
        "`contact-sync sync on` switches it on, with the same --integration",
    ),
    next("SYNC_RUN_NOT_FOUND", "`contact-sync sync status --integration ID` shows the newest runs"),
    next("TOKEN_CLAIM_INVALID", CLAIMS),
    next(
        "TOKEN_EXPIRED",
        "give a new one with --token-file or CONTACT_SYNC_TOKEN, or leave both out to use the local key",
    ),
    next("TOKEN_FOR_OTHER_AUDIENCE", CLAIMS),
    next(
        "TOKEN_INVALID",
        "the token is not this server's: leave --token-file and CONTACT_SYNC_TOKEN out to use the local key, and name the server's \
         data directory with --data-dir if it is not the default one; of an issuer's token the server's log names the cause: is \
         the issuer's key in its key set?",
    ),
    next("TOKEN_MISSING", "give one with --token-file or CONTACT_SYNC_TOKEN"),
    next("TOKEN_NOT_YET_VALID", "compare the clocks of this machine, of the server and of who signed the token"),
    next("TOKEN_OF_OTHER_ISSUER", CLAIMS),
    next("TOO_MANY_AUTHORIZATIONS", "use an address that you have been given already, or wait ten minutes"),
    next(
        "TOO_MANY_WATCHERS",
        "`contact-sync sync status --integration ID` shows how far it is; end another watch, and watch again",
    ),
    next("UNAVAILABLE", TRY_AGAIN),
    next("UNIMPLEMENTED", VERSIONS),
    next("UNKNOWN", LOG),
    // Of a run.
    next("CREDENTIALS_MISSING", "`contact-sync sync credentials --integration ID` brings them"),
    next(
        "CREDENTIALS_SEALED_BY_ANOTHER_KEY",
        "the server's operator restores the key; or `contact-sync sync credentials --integration ID` brings them again",
    ),
    next("NO_PROGRESS", "see the server's log, then `contact-sync sync trigger --integration ID`"),
];

/// Reasons whose message says all that there is to do.
const SAID: [&str; 2] = ["ERASED", "INVALID_ARGUMENT"];

/// What helps against a refused login, by the `cause` in its metadata.
const CAUSES: [(&str, &str); 8] = [
    (
        "USER_NOT_APPROVED",
        "compare --username with the user's page in Salesforce (a sandbox adds its name); then Setup, External Client App Manager, the \
         app, Policies, Edit: Permitted Users \"Admin approved users are pre-authorized\", and select a profile or permission set of the \
         user",
    ),
    ("USER_UNKNOWN", "compare --username with the user's page in Salesforce (a sandbox adds its name)"),
    ("USER_INACTIVE", "Salesforce, Setup, Users, the user of --username: activate, unlock"),
    (
        "PLACE_OR_HOUR",
        "Salesforce, Setup: the login IP ranges and hours of the user's profile, or IP relaxation in the app's policies",
    ),
    (
        "ASSERTION_INVALID",
        "upload the certificate that belongs to the key of --jwt-key-file: External Client App Manager, the app, Settings, OAuth \
         Settings, JWT Bearer Flow",
    ),
    ("AUDIENCE_WRONG", "give --salesforce-host: My Domain, or test.salesforce.com for a sandbox"),
    ("CLOCK_WRONG", "set the clock of the server's machine right (NTP); `date -u` tells its time"),
    ("MAINTENANCE", "see status.salesforce.com, and try again later"),
];

/// What helps where no answer came, by the `cause` in its metadata.
const FAILURES: [(&str, &str); 5] = [
    (
        "DNS",
        "compare --zendesk, --pipedrive or --salesforce-host with the address that agents use; then see that the server's machine \
         resolves it: `getent hosts {host}` there",
    ),
    ("TCP", "let the server's machine reach {host}: a firewall, or a port on which nothing listens"),
    (
        "TLS",
        "`openssl s_client -connect {host}:443` on the server's machine shows the certificate: root certificates are missing \
         (ca-certificates), or a proxy stands between",
    ),
    (
        "TIMEOUT",
        "let the server's machine reach {host}: a firewall may drop it; else see the CRM's status page, and try again",
    ),
    ("CONNECTION_BROKE", "try again; if it stays, see what stands between the server's machine and {host}"),
];

/// What helps; `None` where the message says it already.
pub(in crate::cli) fn next_step(code: Code, reason: &str, metadata: &HashMap<String, String>) -> Option<String> {
    if SAID.contains(&reason) {
        return None;
    }
    let cause = metadata.get("cause").map_or("", String::as_str);
    let by_cause = match reason {
        "GRANT_REFUSED" => CAUSES.iter().find(|(name, _)| *name == cause),
        "CRM_UNREACHABLE" => FAILURES.iter().find(|(name, _)| *name == cause),
        _ => None,
    };
    let step = by_cause.map(|(_, step)| *step).or_else(|| advice(reason).map(|advice| advice.next)).or(match code {
        Code::Unauthenticated => advice("TOKEN_INVALID").map(|advice| advice.next),
        Code::DeadlineExceeded | Code::Cancelled => advice("DEADLINE_EXCEEDED").map(|advice| advice.next),
        Code::Unavailable | Code::ResourceExhausted => Some(TRY_AGAIN),
        Code::Internal => Some(LOG),
        Code::Unimplemented => Some(VERSIONS),
        _ => None,
    })?;
    Some(filled(step, metadata))
}

/// The message, in the command line's words.
pub(in crate::cli) fn message(reason: &str, sent: &str) -> String {
    advice(reason).and_then(|advice| advice.message).map_or_else(|| in_own_words(sent), str::to_owned)
}

fn advice(reason: &str) -> Option<&'static Advice> {
    ADVICE.iter().find(|advice| advice.reason == reason)
}

/// With the metadata's values; what is not there is left as a word to fill in.
fn filled(step: &str, metadata: &HashMap<String, String>) -> String {
    let mut text = String::new();
    let mut rest = step;
    while let Some((before, (name, after))) =
        rest.split_once('{').and_then(|(before, behind)| Some((before, behind.split_once('}')?)))
    {
        text.push_str(before);
        match metadata.get(name) {
            Some(value) => text.push_str(value),
            None => text.push_str(&name.rsplit('_').next().unwrap_or(name).to_uppercase()),
        }
        rest = after;
    }
    text + rest
}

/// What the API's methods and fields are called here.
const WORDS: [(&str, &str); 24] = [
    ("EnableSync and UpdateSync try", "`sync enable` and `sync credentials` try"),
    ("EnableSync", "`sync enable`"),
    ("UpdateSync", "`sync credentials`"),
    ("DisableSync", "`sync disable`"),
    ("StartAuthorization", "`sync authorize`"),
    ("TestConnection", "`sync test`"),
    ("TriggerSync", "`sync trigger`"),
    ("ConfirmDeletions", "`sync confirm-deletions`"),
    ("GetIntegration", "`sync status --integration ID`"),
    ("ListSyncRuns", "`sync status --integration ID`"),
    ("GetSyncRun", "`sync status --integration ID`"),
    ("WatchSyncRun", "`sync watch`"),
    ("CancelSyncRun", "`sync cancel`"),
    ("ListRejectedRecords", "`sync rejected list`"),
    ("RetryRejectedRecords", "`sync rejected retry`"),
    ("TraceRecord", "`sync trace`"),
    ("PreRegisterContact", "`register`"),
    ("SelectMatch", "`select`"),
    ("MatchCaller", "`match`"),
    ("ResolveRequester", "`requester`"),
    ("UpdateAccount", "`account update`"),
    ("MATCH_POLICY_PREFERRED_INTEGRATION", "--policy preferred-integration"),
    ("sync OFF", "sync off"),
    ("`known_through`", "\"known through\""),
];

/// A text of the server's with commands instead of methods.
pub(in crate::cli) fn in_own_words(text: &str) -> String {
    WORDS.iter().fold(text.to_owned(), |text, (of_api, own)| text.replace(of_api, own))
}

/// What a command calls the API's fields, where it is not what the others call them.
pub(in crate::cli) type FieldFlags = &'static [(&'static str, &'static str)];

/// What a person types for a field of a request.
const FLAGS: [(&str, &str); 53] = [
    ("start_time", "--since"),
    ("end_time", "--until"),
    ("account_id", "--account"),
    ("after", "--after"),
    ("agent_id", "--agent"),
    ("call_id", "--call-id"),
    ("connection", "--zendesk, --salesforce or --pipedrive"),
    ("connection.pipedrive_company", "--pipedrive"),
    ("connection.salesforce_host", "--salesforce-host"),
    ("connection.salesforce_org_id", "--salesforce"),
    ("connection.zendesk_subdomain", "--zendesk"),
    ("contact_id", "--contact"),
    ("copied_data", "--purge"),
    ("credentials", "the credentials"),
    ("credentials.bearer_token", "ZENDESK_BEARER_TOKEN or SALESFORCE_BEARER_TOKEN"),
    ("credentials.client_credentials.client_id", "ZENDESK_CLIENT_ID or SALESFORCE_CLIENT_ID"),
    ("credentials.client_credentials.client_secret", "ZENDESK_CLIENT_SECRET or SALESFORCE_CLIENT_SECRET"),
    ("credentials.client_credentials", "PIPEDRIVE_CLIENT_ID with PIPEDRIVE_CLIENT_SECRET alone"),
    ("credentials.pipedrive_api_token", "PIPEDRIVE_API_TOKEN"),
    ("credentials.refresh_token", "the refresh token of .._REFRESH_TOKEN"),
    ("credentials.refresh_token.client_id", "the client of .._CLIENT_ID"),
    ("credentials.refresh_token.client_secret", "the client's secret of .._CLIENT_SECRET"),
    ("credentials.refresh_token.token", "the refresh token of .._REFRESH_TOKEN"),
    ("credentials.salesforce_jwt", "--jwt-key-file"),
    ("credentials.salesforce_jwt.client_id", "SALESFORCE_CLIENT_ID"),
    ("credentials.salesforce_jwt.private_key", "--jwt-key-file"),
    ("credentials.salesforce_jwt.username", "--username"),
    ("credentials.zendesk_api_token", "ZENDESK_API_TOKEN or --api-token-file"),
    ("credentials.zendesk_api_token.email", "--email"),
    ("credentials.zendesk_api_token.token", "ZENDESK_API_TOKEN or --api-token-file"),
    ("default_region", "--region"),
    ("display_name", "--name"),
    ("email", "--email"),
    ("epoch", "--epoch"),
    ("further_regions", "--further-region"),
    ("held_deletions", "--held"),
    ("integration_id", "--integration"),
    ("look_aside_ms", "--look-aside-ms"),
    ("match_policy", "--policy"),
    ("object_type", "--type"),
    ("options", "the options"),
    ("options.period", "--period"),
    ("options.pipedrive_persons", "--mirror-persons"),
    ("options.push", "--push"),
    ("options.salesforce_contacts", "--contacts or --mirror-contacts"),
    ("options.salesforce_leads", "--leads or --mirror-leads"),
    ("options.zendesk_phone_fields", "--phone-field"),
    ("options.zendesk_users", "--users"),
    ("phone_number", "--number"),
    ("preferred_integration_id", "--preferred-integration"),
    ("record_id", "--record"),
    ("salesforce_host", "--salesforce-host"),
    ("sync_run_id", "--run"),
];

/// The flag, argument or variable of a field; `None`: no command lets a person say it.
pub(in crate::cli) fn flag_of(field: &str, own: FieldFlags) -> Option<&'static str> {
    let field = field.strip_prefix("account.").unwrap_or(field);
    let find = |name: &str| own.iter().chain(&FLAGS).find(|(of_api, _)| *of_api == name).map(|(_, flag)| *flag);
    let mut name = field;
    loop {
        if let Some(flag) = find(name) {
            return Some(flag);
        }
        name = name.rsplit_once('.')?.0;
    }
}

/// What to do about a field that nobody typed, or that says more than its flag.
pub(in crate::cli) fn next_of_field(field: &str) -> Option<&'static str> {
    match field {
        "credentials" => Some(
            "`contact-sync sync credentials --integration ID` stores some (`--help` says which), then `contact-sync sync on \
             --integration ID`; or let an administrator authorize it: `contact-sync sync authorize --integration ID`",
        ),
        "credentials.refresh_token" => {
            Some("leave `sync test` out: `contact-sync sync enable` tries it, and then uses it from there on")
        }
        _ => None,
    }
}

#[cfg(test)]
#[path = "advice_tests.rs"]
mod tests;
