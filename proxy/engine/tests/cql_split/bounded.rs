//! The form of a statement with `LIMIT ?`.

use weir_cql::request::QueryFlags;
use weir_cql::{Dialect, Value, Version, write};
use weir_engine::cql::split::{BoundedForm, Whole};

fn form(text: &str) -> Result<BoundedForm, Whole> {
    BoundedForm::of(text.as_bytes(), &weir_cql::statement::read(text.as_bytes()))
}

#[test]
fn texts() {
    for (text, expected) in [
        ("select * from t where pk in ?", "select * from t where pk in ?\nLIMIT ?"),
        ("select * from t where pk in ? ; ", "select * from t where pk in ?\nLIMIT ?"),
        ("select * from t where pk in ? -- done\n", "select * from t where pk in ? -- done\nLIMIT ?"),
        (
            "select * from t where pk in ? per partition limit 2",
            "select * from t where pk in ? per partition limit 2\nLIMIT ?",
        ),
        (
            "select * from t where c = ? and pk in ? limit 7;",
            "select * from t where c = ? and pk in ? limit  ? ;",
        ),
        ("select \"limit\" from t where pk in :x", "select \"limit\" from t where pk in :x\nLIMIT ?"),
    ] {
        let form = form(text).unwrap_or_else(|whole| panic!("{text}: {whole:?}"));
        assert_eq!(String::from_utf8(form.text.clone()).as_deref(), Ok(expected));
        let again = BoundedForm::of(&form.text, &weir_cql::statement::read(&form.text));
        assert_eq!(again, Err(Whole::Limit), "it binds its limit: {expected}");
    }
    for (text, expected) in [
        ("select * from t where pk in ? limit ?", Whole::Limit),
        ("select * from t where pk in ? limit 0", Whole::Limit),
        ("select * from t where pk in ? limit 3000000000", Whole::Limit),
        // the semicolon is not at the end
        ("select * from t where pk in ?; -- done\n", Whole::Limit),
        ("select * from t where pk in ? /* open", Whole::NotSelect),
        ("select * from t where pk in ? -- open", Whole::NotSelect),
        ("select distinct pk from t where pk in ?", Whole::Distinct),
        ("select * from t where pk in ? allow filtering", Whole::Filtering),
        ("select * from t where pk in ? order by c", Whole::Ordered),
        ("select * from t where pk in ? bypass cache", Whole::Limit),
        ("delete from t where pk in ?", Whole::NotSelect),
    ] {
        assert_eq!(form(text), Err(expected), "{text}");
    }
}

#[test]
fn the_value_is_the_clients_limit_or_none() {
    for (text, limit) in
        [("select * from t where pk in ?", i32::MAX), ("select * from t where pk in ? limit 9", 9)]
    {
        for version in [Version::V3, Version::V4, Version::V5] {
            let mut body = Vec::new();
            write::short_bytes(&mut body, b"id");
            if version >= Version::V5 {
                write::short_bytes(&mut body, b"columns");
            }
            write::short(&mut body, 1);
            match version {
                Version::V5 => write::bits(&mut body, QueryFlags::VALUES | QueryFlags::PAGE_SIZE),
                _ => write::byte(&mut body, 5),
            }
            write::short(&mut body, 1);
            write::bytes(&mut body, b"list");
            write::int(&mut body, 77);
            let (old, dialect) = (crate::model::located(version, &body), Dialect::of(version));
            let out = form(text).expect("a form").execute(&body, &old, dialect, b"other").expect("written");
            let new = crate::model::located(version, &out);
            assert_eq!((new.id.of(&out), new.parameters.values.count), (&b"other"[..], 2));
            assert_eq!(new.parameters.span.end as usize, out.len());
            assert_eq!(new.parameters.page_size.map(|size| size.value), Some(77));
            let value = |at| new.parameters.values.get(&out, at).and_then(|value: Value| value.of(&out));
            assert_eq!((value(0), value(1)), (Some(&b"list"[..]), Some(&limit.to_be_bytes()[..])));
        }
    }
}
