//! What Salesforce tells of its objects. Owns: the shape of descriptions. Invariant: a hidden field
//! is not in them.

use axum::http::StatusCode;
use serde_json::{Value, json};

use super::{
    Salesforce,
    objects::{Access, Kind, ObjectKind, Source},
    refusal::SalesforceRefusal,
    schema::{Field, ObjectSchema},
};
use crate::reply::VendorReply;

impl Salesforce {
    /// `GET /sobjects`.
    pub(super) fn describe_all(&self, version: &str) -> VendorReply {
        let state = self.state();
        let objects: Vec<Value> = state.schema.objects().map(|object| summary(object, version)).collect();
        VendorReply::json(StatusCode::OK, &json!({"encoding": "UTF-8", "maxBatchSize": 200, "sobjects": objects}))
    }

    /// `GET /sobjects/{object}`.
    pub(super) fn describe_briefly(&self, version: &str, object: &str) -> Result<VendorReply, SalesforceRefusal> {
        let state = self.state();
        let object = state.schema.find(object).map_err(|_| SalesforceRefusal::not_found())?;
        let recent: [Value; 0] = [];
        let body = json!({"objectDescribe": summary(object, version), "recentItems": recent});
        Ok(VendorReply::json(StatusCode::OK, &body))
    }

    /// `GET /sobjects/{object}/describe`.
    pub(super) fn describe(&self, version: &str, object: &str) -> Result<VendorReply, SalesforceRefusal> {
        let state = self.state();
        let object = state.schema.find(object).map_err(|_| SalesforceRefusal::not_found())?;
        let mut body = summary(object, version);
        body["fields"] = object.visible_fields().map(|(_, field)| field_json(field)).collect();
        for list in ["actionOverrides", "childRelationships", "namedLayoutInfos", "recordTypeInfos", "supportedScopes"]
        {
            body[list] = json!([]);
        }
        body["compactLayoutable"] = json!(true);
        body["searchLayoutable"] = json!(true);
        body["urls"]["uiDetailTemplate"] = json!("/{ID}");
        Ok(VendorReply::json(StatusCode::OK, &body))
    }
}

fn summary(object: &ObjectSchema, version: &str) -> Value {
    let name = object.name();
    let base = format!("/services/data/{version}/sobjects/{name}");
    let is_deletable = object.kind.is_deletable();
    json!({
        "name": name,
        "label": name,
        "labelPlural": format!("{name}s"),
        "keyPrefix": object.kind.prefix(),
        "activateable": false,
        "createable": true,
        "custom": false,
        "customSetting": false,
        "deepCloneable": false,
        "deletable": is_deletable,
        "deprecatedAndHidden": false,
        "feedEnabled": true,
        "hasSubtypes": false,
        "isInterface": false,
        "isSubtype": false,
        "layoutable": true,
        "mergeable": is_deletable,
        "mruEnabled": true,
        "queryable": true,
        "replicateable": true,
        "retrieveable": true,
        "searchable": object.kind.is_searchable(),
        "triggerable": true,
        "undeletable": is_deletable,
        "updateable": true,
        "urls": {
            "sobject": base,
            "describe": format!("{base}/describe"),
            "rowTemplate": format!("{base}/{{ID}}"),
        },
    })
}

fn field_json(field: &Field) -> Value {
    let (kind, soap) = match field.kind {
        Kind::Id => ("id", "tns:ID"),
        Kind::Reference(..) => ("reference", "tns:ID"),
        Kind::Text => ("string", "xsd:string"),
        Kind::Phone => ("phone", "xsd:string"),
        Kind::Email => ("email", "xsd:string"),
        Kind::Url => ("url", "xsd:string"),
        Kind::LongText => ("textarea", "xsd:string"),
        Kind::Picklist => ("picklist", "xsd:string"),
        Kind::Boolean => ("boolean", "xsd:boolean"),
        Kind::DateTime => ("datetime", "xsd:dateTime"),
        Kind::Date => ("date", "xsd:date"),
    };
    let reference: Option<(ObjectKind, &str)> =
        if let Kind::Reference(to, relationship) = field.kind { Some((to, relationship)) } else { None };
    let is_writeable = field.access != Access::System;
    let is_filterable = field.kind != Kind::LongText;
    let is_system = matches!(
        field.source,
        Source::Id
            | Source::IsDeleted
            | Source::CreatedDate
            | Source::LastModifiedDate
            | Source::SystemModstamp
            | Source::Administrator
    );
    let is_nillable = !is_system && field.access != Access::Required && field.kind != Kind::Boolean;
    json!({
        "name": field.name,
        "label": label(&field.name),
        "type": kind,
        "soapType": soap,
        "length": field.length,
        "byteLength": field.length * 3,
        "aggregatable": is_filterable,
        "autoNumber": false,
        "calculated": false,
        "caseSensitive": false,
        "createable": is_writeable,
        "custom": field.is_custom,
        "defaultedOnCreate": is_system || field.kind == Kind::Boolean,
        "deprecatedAndHidden": false,
        "digits": 0,
        "externalId": false,
        "filterable": is_filterable,
        "groupable": is_filterable && field.kind != Kind::DateTime,
        "idLookup": matches!(field.kind, Kind::Id | Kind::Email),
        "nameField": field.source == Source::Name,
        "nillable": is_nillable,
        "permissionable": is_writeable && field.access != Access::Required,
        "picklistValues": [],
        "precision": 0,
        "queryByDistance": false,
        "referenceTo": reference.map_or_else(Vec::new, |(to, _)| vec![to.name()]),
        "relationshipName": reference.map(|(_, relationship)| relationship),
        "restrictedPicklist": false,
        "scale": 0,
        "sortable": is_filterable,
        "unique": false,
        "updateable": is_writeable,
    })
}

/// `MobilePhone` becomes `Mobile Phone`.
fn label(name: &str) -> String {
    let name = name.strip_suffix("__c").unwrap_or(name);
    let mut label = String::with_capacity(name.len() + 4);
    let mut was_lower = false;
    for character in name.chars() {
        if character.is_uppercase() && was_lower {
            label.push(' ');
        }
        was_lower = character.is_lowercase();
        label.push(if character == '_' { ' ' } else { character });
    }
    label
}
