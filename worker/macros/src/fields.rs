//! The names of an event's fields, as they are written, if that is simple to tell.

use syn::ext::IdentExt;
use syn::meta::ParseNestedMeta;
use syn::{Attribute, Data, DeriveInput, Expr, Field, Fields, LitStr};

/// Options of serde on a type that leave the names of its fields as they are.
const HARMLESS: [&str; 6] = ["rename", "default", "deny_unknown_fields", "bound", "crate", "expecting"];

/// None if it is written as anything but a map of its fields, or serde's options say more than is understood here.
pub(crate) fn names(input: &DeriveInput) -> Option<Vec<String>> {
    let Data::Struct(data) = &input.data else { return None };
    let Fields::Named(fields) = &data.fields else { return None };
    for (key, _) in options(&input.attrs, "serde")? {
        HARMLESS.contains(&key.as_str()).then_some(())?;
    }
    let mut names = Vec::new();
    for field in &fields.named {
        match named(field) {
            Named::As(name) => names.push(name),
            Named::Skipped => {}
            Named::Unclear => return None,
        }
    }
    Some(names)
}

enum Named {
    As(String),
    /// It is not written at all.
    Skipped,
    Unclear,
}

fn named(field: &Field) -> Named {
    let (Some(ident), Some(options)) = (&field.ident, options(&field.attrs, "serde")) else { return Named::Unclear };
    let mut name = ident.unraw().to_string();
    for (key, value) in options {
        match (key.as_str(), value) {
            ("skip", _) => return Named::Skipped,
            ("flatten", _) | ("rename", None) => return Named::Unclear,
            ("rename", Some(given)) => name = given,
            _ => {}
        }
    }
    Named::As(name)
}

/// What `#[serde(...)]`, or that of another derive, says, with those values that are text. None if it cannot be read;
/// the derive reports that.
pub(crate) fn options(attributes: &[Attribute], of: &str) -> Option<Vec<(String, Option<String>)>> {
    let mut found = Vec::new();
    for attribute in attributes.iter().filter(|a| a.path().is_ident(of)) {
        let read = attribute.parse_nested_meta(|meta| {
            let key = meta.path.get_ident().map(ToString::to_string).unwrap_or_default();
            found.push((key, value(&meta)?));
            Ok(())
        });
        read.ok()?;
    }
    Some(found)
}

fn value(meta: &ParseNestedMeta) -> syn::Result<Option<String>> {
    if meta.input.peek(syn::token::Paren) {
        let inside;
        syn::parenthesized!(inside in meta.input);
        inside.parse::<proc_macro2::TokenStream>()?;
        return Ok(None);
    }
    let Ok(value) = meta.value() else { return Ok(None) };
    if value.peek(LitStr) {
        value.parse::<LitStr>().map(|text| Some(text.value()))
    } else {
        value.parse::<Expr>().map(|_| None)
    }
}

#[cfg(test)]
mod tests {
    use syn::parse_quote;

    use super::*;

    #[test]
    fn fields_are_named_as_serde_writes_them() {
        let input = parse_quote! {
            #[serde(rename = "x", deny_unknown_fields)]
            struct Asked {
                plain: u8,
                r#type: u8,
                #[serde(rename = "otherName", default)]
                renamed: u8,
                #[serde(default = "some::function", skip)]
                skipped: u8,
                #[doc = "x"]
                #[serde(with = "module", skip_serializing_if = "Option::is_none")]
                optional: Option<u8>,
            }
        };
        assert_eq!(names(&input).unwrap(), ["plain", "type", "otherName", "optional"]);
        let empty: DeriveInput = parse_quote!(
            struct Asked {}
        );
        assert_eq!(names(&empty).unwrap(), [""; 0]);
    }

    #[test]
    fn what_is_not_simple_is_not_guessed() {
        let cases: [DeriveInput; 8] = [
            parse_quote!(
                struct A;
            ),
            parse_quote!(
                struct A(u8);
            ),
            parse_quote!(
                enum A {
                    B,
                }
            ),
            parse_quote!(
                #[serde(rename_all = "camelCase")]
                struct A {
                    a_b: u8,
                }
            ),
            parse_quote!(
                #[serde(tag = "kind")]
                struct A {
                    a: u8,
                }
            ),
            parse_quote!(
                #[serde(transparent)]
                struct A {
                    a: u8,
                }
            ),
            parse_quote!(
                struct A {
                    #[serde(flatten)]
                    a: B,
                }
            ),
            parse_quote!(
                struct A {
                    #[serde(rename(serialize = "b"))]
                    a: u8,
                }
            ),
        ];
        for input in cases {
            assert_eq!(names(&input), None, "{}", quote::quote!(#input));
        }
    }
}
