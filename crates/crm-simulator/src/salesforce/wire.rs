//! Rows as JSON: fields in the order in which they were asked for, parents as objects inside. Owns:
//! the `attributes` of each record and the nesting of parents.

use serde::{Serialize, Serializer, ser::SerializeMap};

use super::{
    objects::ObjectKind,
    record::Record,
    schema::Schema,
    soql::{Column, Query, Row},
};

/// What of a result goes under which name.
pub(super) struct Layout<'a> {
    schema: &'a Schema,
    object: ObjectKind,
    nodes: Vec<Node<'a>>,
    /// `v67.0`, as in the request's path.
    version: &'a str,
}

struct Node<'a> {
    name: &'a str,
    content: Content<'a>,
}

enum Content<'a> {
    Field(&'a Column),
    Parent { parent: usize, object: ObjectKind, nodes: Vec<Node<'a>> },
}

impl<'a> Layout<'a> {
    pub(super) fn new(schema: &'a Schema, query: &'a Query, version: &'a str) -> Self {
        let columns: Vec<&Column> = query.columns.iter().collect();
        Self { schema, object: query.object, nodes: nodes(query, &columns, 0), version }
    }

    pub(super) fn row<'r>(&'r self, row: &'r Row) -> RowJson<'r> {
        RowJson { layout: self, row, record: Some(&row.record), object: self.object, nodes: &self.nodes }
    }
}

/// The columns below `depth` relationships, those of one parent together where the first of them
/// stands.
fn nodes<'a>(query: &Query, columns: &[&'a Column], depth: usize) -> Vec<Node<'a>> {
    let mut nodes: Vec<Node<'a>> = Vec::new();
    for column in columns {
        let name = column.names[depth].as_str();
        let Some(parent) = column.parents.get(depth).copied() else {
            nodes.push(Node { name, content: Content::Field(column) });
            continue;
        };
        let is_known = nodes.iter().any(|node| node.name == name && matches!(node.content, Content::Parent { .. }));
        if !is_known {
            let of_parent = columns.iter().copied().filter(|column| column.parents.get(depth) == Some(&parent));
            let below = self::nodes(query, &of_parent.collect::<Vec<_>>(), depth + 1);
            let content = Content::Parent { parent, object: query.object_of_parent(parent), nodes: below };
            nodes.push(Node { name, content });
        }
    }
    nodes
}

/// A record of a result, or a parent of it.
pub(super) struct RowJson<'r> {
    layout: &'r Layout<'r>,
    row: &'r Row,
    record: Option<&'r Record>,
    object: ObjectKind,
    nodes: &'r [Node<'r>],
}

#[derive(Serialize)]
struct Attributes {
    #[serde(rename = "type")]
    object: &'static str,
    url: String,
}

impl Serialize for RowJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Some(record) = self.record else { return serializer.serialize_none() };
        let mut map = serializer.serialize_map(Some(self.nodes.len() + 1))?;
        let object = self.object.name();
        let url = format!("/services/data/{}/sobjects/{object}/{}", self.layout.version, record.id);
        map.serialize_entry("attributes", &Attributes { object, url })?;
        for node in self.nodes {
            match &node.content {
                Content::Field(column) => {
                    map.serialize_entry(node.name, &self.row.column(self.layout.schema, column).to_json())?;
                }
                Content::Parent { parent, object, nodes } => {
                    let record = self.row.parent(*parent).map(std::convert::AsRef::as_ref);
                    map.serialize_entry(node.name, &RowJson { record, object: *object, nodes, ..*self })?;
                }
            }
        }
        map.end()
    }
}
