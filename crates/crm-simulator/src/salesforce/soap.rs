//! The SOAP calls that REST has no counterpart for: login, merge, undelete, convert a Lead. Owns:
//! reading and writing their envelopes, faults as SOAP has them. Names are matched without their
//! namespaces, which clients spell as they like.

use axum::{
    body::Bytes,
    http::{HeaderValue, Method, StatusCode, header},
};
use roxmltree::{Document, Node};
use serde_json::{Map, Value};

use super::{
    Salesforce,
    id::RecordId,
    objects::Kind,
    refusal::SalesforceRefusal,
    session::{administrator, organization},
    state::State,
};
use crate::{call::ApiCall, reply::VendorReply};

/// Records or merges in one call.
const ITEMS_MAX: usize = 200;

impl Salesforce {
    /// `POST /services/Soap/{u|c}/{version}`, its session checked here because it is in the body.
    pub(super) fn soap(&self, call: &ApiCall, flavour: &str, is_administrator: bool) -> VendorReply {
        if call.method != Method::POST {
            return SalesforceRefusal::method_not_allowed(call.method.as_str()).reply();
        }
        let namespace = if flavour == "c" { "urn:enterprise.soap.sforce.com" } else { "urn:partner.soap.sforce.com" };
        match self.soap_result(call, is_administrator) {
            Ok((name, results)) => envelope(namespace, &format!("<{name}Response>{results}</{name}Response>")),
            Err(refusal) => fault(&refusal),
        }
    }

    /// The name of the call and the XML of its results.
    fn soap_result(&self, call: &ApiCall, is_administrator: bool) -> Result<(String, String), SalesforceRefusal> {
        let malformed = || SalesforceRefusal::bad("UNKNOWN_EXCEPTION", "the body is no SOAP envelope");
        // A call from inside the process has a JSON body: the envelope as a text.
        let text = match serde_json::from_slice(&call.body) {
            Ok(text) if is_administrator => text,
            _ => String::from_utf8(call.body.to_vec()).map_err(|_| malformed())?,
        };
        let document = Document::parse(&text).map_err(|_| malformed())?;
        let root = document.root_element();
        let operation = child(root, "Body").and_then(|body| body.first_element_child()).ok_or_else(malformed)?;
        let name = operation.tag_name().name().to_owned();
        if name == "login" {
            return Ok((name, self.login(call, operation)?));
        }
        if !is_administrator {
            let header = child(root, "Header").and_then(|header| child(header, "SessionHeader"));
            let session = header.and_then(|header| text_of(header, "sessionId"));
            self.admit(session).map_err(|refusal| match refusal.code {
                "INVALID_SESSION_ID" => {
                    let message = "Invalid Session ID found in SessionHeader: Illegal Session. Session not found";
                    SalesforceRefusal { message: message.to_owned(), ..refusal }
                }
                _ => refusal,
            })?;
        }
        let results = match name.as_str() {
            "merge" => self.each_item(operation, "request", |state, request| self.soap_merge(state, request))?,
            "undelete" => self.each_item(operation, "ids", |state, id| self.soap_undelete(state, id))?,
            "convertLead" => self.each_item(operation, "leadConverts", |state, item| self.soap_convert(state, item))?,
            _ => {
                return Err(SalesforceRefusal::bad(
                    "UNKNOWN_EXCEPTION",
                    format!("No operation available for request {name}"),
                ));
            }
        };
        Ok((name, results))
    }

    fn login(&self, call: &ApiCall, operation: Node) -> Result<String, SalesforceRefusal> {
        let text = |name| text_of(operation, name).unwrap_or_default();
        let (username, password) = (text("username"), text("password"));
        let config = &self.config;
        let is_right = username == config.username
            && (password == config.password || password == format!("{}{}", config.password, config.security_token));
        if !is_right {
            let message = "Invalid username, password, security token; or user locked out.";
            return Err(SalesforceRefusal::bad("INVALID_LOGIN", message));
        }
        let session = self.issue_session();
        let server = self.instance_url(call);
        let path = call.uri.path().trim_end_matches('/');
        let (organization, user) = (organization(), administrator());
        let server_url = escaped(&format!("{server}{path}/{}", &organization.to_string()[..15]));
        Ok(format!(
            "<result><metadataServerUrl>{server_url}</metadataServerUrl><passwordExpired>false</passwordExpired>\
             <sandbox>false</sandbox><serverUrl>{server_url}</serverUrl><sessionId>{}</sessionId>\
             <userId>{user}</userId><userInfo><organizationId>{organization}</organizationId>\
             <userEmail>{email}</userEmail><userId>{user}</userId><userName>{email}</userName></userInfo></result>",
            escaped(&session),
            email = escaped(&config.username),
        ))
    }

    /// One `<result>` for each item, refusals among them.
    fn each_item(
        &self,
        operation: Node,
        name: &str,
        work: impl Fn(&mut State, Node) -> Result<String, SalesforceRefusal>,
    ) -> Result<String, SalesforceRefusal> {
        // One client names the items of a merge as the operation's schema does, another as its own
        // interface does.
        let names = [name, if name == "request" { "mergeRequests" } else { name }];
        let items = operation.children().filter(|item| names.contains(&item.tag_name().name()));
        let items: Vec<Node> = items.take(ITEMS_MAX + 1).collect();
        if items.len() > ITEMS_MAX {
            return Err(SalesforceRefusal::bad(
                "EXCEEDED_ID_LIMIT",
                "record limit reached. cannot submit more than 200 records",
            ));
        }
        let mut state = self.state();
        Ok(items.into_iter().map(|item| work(&mut state, item).unwrap_or_else(|refusal| failed(&refusal))).collect())
    }

    fn soap_merge(&self, state: &mut State, request: Node) -> Result<String, SalesforceRefusal> {
        let record = child(request, "masterRecord").ok_or_else(|| SalesforceRefusal::missing(&["masterRecord"]))?;
        let master = id_in(record, "Id")?;
        let losers = request.children().filter(|node| node.tag_name().name() == "recordToMergeIds");
        let losers: Vec<RecordId> = losers.map(|node| read_id(node.text())).collect::<Result<_, _>>()?;
        let fields = fields_of(state, record, master);
        state.merge(master, &losers, &fields, self.now_millis())?;
        let merged = elements("mergedRecordIds", losers.iter().map(RecordId::to_string));
        Ok(format!("<result><id>{master}</id>{merged}<success>true</success></result>"))
    }

    fn soap_undelete(&self, state: &mut State, id: Node) -> Result<String, SalesforceRefusal> {
        let id = read_id(id.text())?;
        state.undelete(id, self.now_millis())?;
        Ok(format!("<result><id>{id}</id><success>true</success></result>"))
    }

    fn soap_convert(&self, state: &mut State, item: Node) -> Result<String, SalesforceRefusal> {
        let lead = id_in(item, "leadId")?;
        let contact = text_of(item, "contactId").map(|id| read_id(Some(id))).transpose()?;
        let contact = state.convert_lead(lead, contact, self.now_millis())?;
        let object = state.schema.object(super::objects::ObjectKind::Contact);
        let slot = object.slot("AccountId");
        let account = slot.and_then(|slot| state.find(contact)?.reference(object, slot));
        let account = account.map(|id| format!("<accountId>{id}</accountId>")).unwrap_or_default();
        Ok(format!(
            "<result>{account}<contactId>{contact}</contactId><leadId>{lead}</leadId><success>true</success></result>"
        ))
    }
}

/// The fields of a master record besides its type and id; those named in `fieldsToNull` are null.
fn fields_of(state: &State, record: Node, id: RecordId) -> Map<String, Value> {
    let mut fields = Map::new();
    let object = state.schema.of_id(id);
    for node in record.children().filter(Node::is_element) {
        let (name, text) = (node.tag_name().name(), node.text().unwrap_or_default());
        match name {
            "type" | "Id" | "id" | "attributes" => {}
            "fieldsToNull" => {
                fields.insert(text.to_owned(), Value::Null);
            }
            _ => {
                let slot = object.and_then(|object| object.slot(name));
                let is_flag = slot.zip(object).is_some_and(|(slot, object)| object.field(slot).kind == Kind::Boolean);
                let value = if is_flag { Value::Bool(text == "true") } else { Value::String(text.to_owned()) };
                fields.insert(name.to_owned(), value);
            }
        }
    }
    fields
}

fn child<'a, 'input>(node: Node<'a, 'input>, name: &str) -> Option<Node<'a, 'input>> {
    node.children().find(|child| child.tag_name().name().eq_ignore_ascii_case(name))
}

fn text_of<'a>(node: Node<'a, '_>, name: &str) -> Option<&'a str> {
    child(node, name).and_then(|child| child.text()).map(str::trim).filter(|text| !text.is_empty())
}

fn id_in(node: Node, name: &str) -> Result<RecordId, SalesforceRefusal> {
    read_id(text_of(node, name))
}

fn read_id(text: Option<&str>) -> Result<RecordId, SalesforceRefusal> {
    let text = text.map(str::trim).unwrap_or_default();
    RecordId::parse(text).ok_or_else(|| SalesforceRefusal::malformed_id(text))
}

fn failed(refusal: &SalesforceRefusal) -> String {
    let fields = elements("fields", refusal.fields.iter().cloned());
    format!(
        "<result><errors>{fields}<message>{}</message><statusCode>{}</statusCode></errors>\
         <success>false</success></result>",
        escaped(&refusal.message),
        refusal.code
    )
}

/// A refusal of the whole call.
pub(super) fn fault(refusal: &SalesforceRefusal) -> VendorReply {
    let (code, message) = (refusal.code, escaped(&refusal.message));
    let kind = if matches!(code, "INVALID_LOGIN") { "LoginFault" } else { "UnexpectedErrorFault" };
    let body = format!(
        "<soapenv:Fault><faultcode>sf:{code}</faultcode><faultstring>{code}: {message}</faultstring><detail>\
         <sf:{kind} xsi:type=\"sf:{kind}\"><sf:exceptionCode>{code}</sf:exceptionCode>\
         <sf:exceptionMessage>{message}</sf:exceptionMessage></sf:{kind}></detail></soapenv:Fault>"
    );
    let mut reply = envelope("urn:fault.partner.soap.sforce.com", &body);
    reply.status = StatusCode::INTERNAL_SERVER_ERROR;
    reply
}

fn envelope(namespace: &str, body: &str) -> VendorReply {
    let text = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?><soapenv:Envelope \
         xmlns:soapenv=\"http://schemas.xmlsoap.org/soap/envelope/\" xmlns=\"{namespace}\" xmlns:sf=\"{namespace}\" \
         xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\"><soapenv:Body>{body}</soapenv:Body></soapenv:Envelope>"
    );
    let content_type = HeaderValue::from_static("text/xml; charset=utf-8");
    VendorReply { status: StatusCode::OK, headers: vec![(header::CONTENT_TYPE, content_type)], body: Bytes::from(text) }
}

/// An element of this name for each text.
fn elements(name: &str, texts: impl Iterator<Item = String>) -> String {
    texts.fold(String::new(), |all, text| all + &format!("<{name}>{}</{name}>", escaped(&text)))
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
