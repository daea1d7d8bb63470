//! The standard's own schemas, which a schema may refer to without giving them.
//!
//! Renditions without titles and comments: the same values are valid.

/// The text of a metaschema.
pub(crate) fn text(address: &str) -> Option<&'static str> {
    Some(match address {
        "https://json-schema.org/draft/2020-12/schema" => {
            include_str!("metaschemas/2020-12-schema.json")
        }
        "https://json-schema.org/draft/2020-12/meta/core" => {
            include_str!("metaschemas/2020-12-meta-core.json")
        }
        "https://json-schema.org/draft/2020-12/meta/applicator" => {
            include_str!("metaschemas/2020-12-meta-applicator.json")
        }
        "https://json-schema.org/draft/2020-12/meta/unevaluated" => {
            include_str!("metaschemas/2020-12-meta-unevaluated.json")
        }
        "https://json-schema.org/draft/2020-12/meta/validation" => {
            include_str!("metaschemas/2020-12-meta-validation.json")
        }
        "https://json-schema.org/draft/2020-12/meta/meta-data" => {
            include_str!("metaschemas/2020-12-meta-meta-data.json")
        }
        "https://json-schema.org/draft/2020-12/meta/format-annotation" => {
            include_str!("metaschemas/2020-12-meta-format-annotation.json")
        }
        "https://json-schema.org/draft/2020-12/meta/format-assertion" => {
            include_str!("metaschemas/2020-12-meta-format-assertion.json")
        }
        "https://json-schema.org/draft/2020-12/meta/content" => {
            include_str!("metaschemas/2020-12-meta-content.json")
        }
        "http://json-schema.org/draft-07/schema" => {
            include_str!("metaschemas/draft-07-schema.json")
        }
        "http://json-schema.org/draft-06/schema" => {
            include_str!("metaschemas/draft-06-schema.json")
        }
        "http://json-schema.org/draft-04/schema" => {
            include_str!("metaschemas/draft-04-schema.json")
        }
        _ => return None,
    })
}
