use std::collections::HashMap;

use super::*;

/// Two names whose columns would have the same field id.
fn names_of_one_id() -> [String; 2] {
    let mut by_id = HashMap::new();
    for i in 0..1_000_000 {
        let name = format!("label_{i}");
        if let Some(other) = by_id.insert(v2::schema::label_id(&name), name.clone()) {
            let mut names = [other, name];
            names.sort();
            return names;
        }
    }
    panic!("a million names have as many ids")
}

#[test]
fn of_two_labels_with_one_id_the_second_has_no_column() {
    let [first, second] = names_of_one_id();
    let labels = Labels::from_pairs([("__name__", "x"), (&first, "1"), (&second, "2")]);
    let mut builder = SeriesBuilder::default();
    builder.push(&labels, SeriesRow::default());
    let batch = builder.finish(FormatVersion::V2).unwrap();
    let column = |name: &str| format!("{}{name}", schema::LABEL_PREFIX);
    assert!(batch.column_by_name(&column(&first)).is_some());
    assert!(batch.column_by_name(&column(&second)).is_none());
    assert_eq!(read_labels(&batch).unwrap(), [labels]);
}
