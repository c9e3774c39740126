use proptest::prelude::*;

use super::*;

fn object(key: &str) -> String {
    format!(
        "<Contents><Key>{key}</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified>\
         <ETag>&quot;e&quot;</ETag><Owner><ID>i</ID><Key>no \
         name</Key></Owner><Size>1</Size></Contents>"
    )
}

fn page(entries: &[String]) -> String {
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<ListBucketResult \
         xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">\
         <Name>bucket</Name><Prefix>a//b/</Prefix><IsTruncated>false</IsTruncated>{}</ListBucketResult>",
        entries.concat()
    )
}

fn folder(name: &str) -> String {
    format!("<CommonPrefixes><Prefix>{name}</Prefix></CommonPrefixes>")
}

#[test]
fn a_clean_page_stays_as_it_is() {
    let text =
        page(&[object("x/meta.json"), object("ü/&amp;~%#*"), folder("x/"), object("a b&#39;")]);
    assert_eq!(clean(&text, "").unwrap(), Page { text, ignored: Vec::new() });
    assert_eq!(clean("", "").unwrap().text, "");
    assert_eq!(clean("<a><b></a>", ""), None, "the client says what is wrong with it");
}

#[test]
fn entries_that_are_no_paths_go_and_the_others_stay() {
    let bad =
        ["x//y", "../x", "x/./y", "x&#10;y", "x&#xD;", "/x", "x/", "x/chunks/", "&#x1;", "&what;"];
    let folders = ["/", "../", "x//", "x&#x9;/"];
    let mut entries = Vec::new();
    for key in bad {
        entries.extend([object("good/a"), object(key)]);
    }
    entries.extend(folders.iter().map(|name| folder(name)));
    entries.push(folder("good/"));
    let cleaned = clean(&page(&entries), "").unwrap();
    let expected = [vec![object("good/a"); bad.len()], vec![folder("good/")]].concat();
    assert_eq!(cleaned.text, page(&expected));
    let ignored: Vec<&str> = cleaned.ignored.iter().map(String::as_str).collect();
    let names =
        ["x//y", "../x", "x/./y", "x\ny", "x\r", "/x", "x/", "x/chunks/", "\u{1}", "&what;"];
    assert_eq!(ignored, [&names[..], &["/", "../", "x//", "x\t/"]].concat());
}

#[test]
fn the_prefix_goes_whatever_it_looks_like() {
    let keys = ["a//b/x/y&amp;z", "a//b/", "a//b//x", "a//bc", "a/b/x"].map(object);
    let entries = [&keys[..], &[folder("a//b/x/")]].concat();
    let cleaned = clean(&page(&entries), "a//b").unwrap();
    assert_eq!(cleaned.text, page(&[object("x/y&amp;z"), folder("x/")]));
    assert_eq!(cleaned.ignored, ["", "/x"], "what lies elsewhere is not ours to tell of");
}

#[test]
fn azure_names_its_entries_otherwise() {
    let blob = |name: &str| {
        format!("<Blob><Name>{name}</Name><Properties><Name>p</Name></Properties></Blob>")
    };
    let prefix = |name: &str| format!("<BlobPrefix><Name>{name}</Name></BlobPrefix>");
    let page = |inner: String| {
        format!("<EnumerationResults><Blobs>{inner}</Blobs><NextMarker /></EnumerationResults>")
    };
    let text = page([blob("x//y"), blob("p/x"), prefix("p/x/"), prefix("p//")].concat());
    let cleaned = clean(&text, "p").unwrap();
    assert_eq!(cleaned.text, page([blob("x"), prefix("x/")].concat()));
}

#[test]
fn errors_of_deletions_are_named() {
    let answer = "<DeleteResult><Deleted><Key>a</Key></Deleted><Error><Key>b/</Key><Code>AccessDenied</Code></Error>\
                  </DeleteResult>";
    assert_eq!(names_of(answer, "Error"), ["b/"]);
    assert!(names_of("no <xml", "Error").is_empty());
}

proptest! {
    /// Whatever the keys are, exactly the clean ones come out, and nothing panics.
    #[test]
    fn clean_keys_and_no_others_come_out(keys in prop::collection::vec("[ab./\n&<%é~]{0,6}", 0..8)) {
        let entries: Vec<String> = keys.iter().map(|key| object(&escape(key.as_str()))).collect();
        let cleaned = clean(&page(&entries), "").unwrap();
        let left: Vec<String> = super::entries(&cleaned.text).unwrap().into_iter().map(|e| e.name.unwrap()).collect();
        let (sound, bad): (Vec<String>, Vec<String>) = keys.into_iter().partition(|key| is_clean(key));
        prop_assert_eq!(left, sound);
        prop_assert_eq!(cleaned.ignored, bad);
    }

    #[test]
    fn no_bytes_panic(text in "\\PC{0,80}", xml in "(<Contents>|<Key>|</Key>|</Contents>|&#?x?[0-9]{0,3};?|[a/<>&]){0,12}") {
        clean(&text, "a");
        clean(&xml, "a");
        names_of(&xml, "Contents");
    }
}
