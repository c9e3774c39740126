//! Checks `proto/PRIVATE.md` against the `.proto` files.

use std::collections::BTreeSet;

use prost::Message;
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{DescriptorProto, FieldDescriptorProto, FileDescriptorSet};

const FIRST_PRIVATE: i32 = 10_000;
const TABLE: &str = include_str!("../../../proto/PRIVATE.md");

/// A private field as a row of the table states it.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
struct PrivateField {
    message: String,
    name: String,
    number: i32,
    /// The type as in a `.proto` file, with message types in full.
    kind: String,
}

fn kind(field: &FieldDescriptorProto) -> String {
    let scalar = |kind: Type| kind.as_str_name().trim_start_matches("TYPE_").to_lowercase();
    let name = match field.r#type() {
        Type::Message | Type::Enum => field.type_name().trim_start_matches('.').to_owned(),
        other => scalar(other),
    };
    if field.label() == Label::Repeated { format!("repeated {name}") } else { name }
}

fn collect(prefix: &str, message: &DescriptorProto, fields: &mut BTreeSet<PrivateField>) {
    let full = format!("{prefix}.{}", message.name());
    let private = message.field.iter().filter(|field| field.number() >= FIRST_PRIVATE);
    fields.extend(private.map(|field| PrivateField {
        message: full.clone(),
        name: field.name().to_owned(),
        number: field.number(),
        kind: kind(field),
    }));
    for nested in &message.nested_type {
        collect(&full, nested, fields);
    }
}

fn in_protos() -> BTreeSet<PrivateField> {
    let mut fields = BTreeSet::new();
    let set = FileDescriptorSet::decode(crate::FILE_DESCRIPTOR_SET).unwrap();
    for file in &set.file {
        for message in &file.message_type {
            collect(file.package(), message, &mut fields);
        }
    }
    fields
}

/// The cells of each row below the table's head.
fn rows() -> Vec<Vec<&'static str>> {
    let cells =
        |line: &'static str| line.trim_matches('|').split('|').map(str::trim).collect::<Vec<_>>();
    TABLE.lines().filter(|line| line.starts_with('|')).skip(2).map(cells).collect()
}

#[test]
fn every_private_field_is_in_the_table_and_the_other_way_round() {
    let code = |cell: &str| {
        cell.strip_prefix('`').and_then(|c| c.strip_suffix('`')).unwrap_or(cell).to_owned()
    };
    let stated = rows().into_iter().map(|row| PrivateField {
        message: code(row[0]),
        name: code(row[1]),
        number: row[2].parse().unwrap(),
        kind: code(row[3]),
    });
    let (stated, actual) = (stated.collect::<BTreeSet<_>>(), in_protos());
    let missing: Vec<_> = actual.difference(&stated).collect();
    let unknown: Vec<_> = stated.difference(&actual).collect();
    assert!(!actual.is_empty(), "no private field was found in proto/");
    assert!(
        missing.is_empty() && unknown.is_empty(),
        "proto/PRIVATE.md lacks {missing:#?}, and has {unknown:#?}"
    );
    assert_eq!(rows().len(), actual.len(), "a row stands twice in proto/PRIVATE.md");
}

#[test]
fn every_row_says_since_when_and_what_absence_means() {
    for row in rows() {
        let field = row[1];
        assert_eq!(row.len(), 7, "{field}: {row:?}");
        let version: Vec<_> = row[4].split('.').map(str::parse::<u32>).collect();
        assert!(
            version.len() == 3 && version.iter().all(Result::is_ok),
            "{field}: {} is no version",
            row[4]
        );
        assert!(!row[5].is_empty() && !row[6].is_empty(), "{field} has an empty cell");
    }
}
