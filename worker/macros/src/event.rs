//! `#[derive(Event)]`.

use proc_macro2::TokenStream;
use quote::{quote, quote_spanned};
use syn::ext::IdentExt;
use syn::visit::Visit;
use syn::{Attribute, Data, DeriveInput, Error, Field, LitStr, Result, TypeReference};

use crate::{fields, options};

/// The impl. An event with a bad name still becomes one, so that its uses are not reported too.
pub(crate) fn expand(input: &DeriveInput) -> TokenStream {
    let mut mistakes = None;
    let name = name(input).unwrap_or_else(|mistake| {
        options::collect(&mut mistakes, mistake);
        LitStr::new("", input.ident.span())
    });
    let fields = check(input);
    let event = fields.is_ok().then(|| {
        let ident = &input.ident;
        let schema = schema(input, &name);
        quote_spanned! {ident.span()=>
            #[automatically_derived]
            impl ::stepfleet::Event for #ident {
                const NAME: &'static str = #name;
                #schema
            }
        }
    });
    if let Err(mistake) = fields {
        options::collect(&mut mistakes, mistake);
    }
    let mistakes = mistakes.map(|m| m.to_compile_error());
    quote!(#event #mistakes)
}

/// The full schema if the type has one, otherwise the names of its fields.
fn schema(input: &DeriveInput, name: &LitStr) -> TokenStream {
    let fields = fields::names(input).map_or_else(
        || quote!(::core::option::Option::None),
        |names| quote!(::core::option::Option::Some(&[#(#names),*])),
    );
    quote! {
        fn schema() -> ::stepfleet::__private::Value {
            #[allow(unused_imports)]
            use ::stepfleet::__private::{Typed as _, Untyped as _};
            (&::stepfleet::__private::Probe::<Self>::new())
                .schema(#name, #fields)
        }
    }
}

fn name(input: &DeriveInput) -> Result<LitStr> {
    let mut name = None;
    for attribute in input.attrs.iter().filter(|a| a.path().is_ident("event")) {
        attribute.parse_args_with(|tokens: syn::parse::ParseStream| {
            options::read_all(tokens, "an event", &["name"], |_, value| {
                let value = options::name(value)?;
                match name.replace(value) {
                    Some(_) => Err(Error::new_spanned(attribute, "`name` is given twice: remove one of them")),
                    None => Ok(()),
                }
            })
        })?;
    }
    if let Some(name) = name {
        return Ok(name);
    }
    let own = input.ident.unraw().to_string();
    options::check_name(&own, input.ident.span())
        .map_err(|e| Error::new(e.span(), format!("{e}; or set `#[event(name = \"...\")]`")))?;
    Ok(LitStr::new(&own, input.ident.span()))
}

fn check(input: &DeriveInput) -> Result<()> {
    if let Data::Union(union) = &input.data {
        return Err(Error::new(
            union.union_token.span,
            "an event is a struct or an enum: a union cannot be serialized",
        ));
    }
    let mut mistakes = None;
    if let Some(lifetime) = input.generics.lifetimes().next() {
        let message = "an event must own its data, because another worker reads it: remove the lifetime, and use \
                       `String` for `&str`, `Vec<T>` for `&[T]`, `T` for `&T`";
        return Err(Error::new_spanned(lifetime, message));
    }
    if let Some(parameter) = input.generics.params.first() {
        let message = "an event cannot be generic, because it is routed by its name: derive `Event` for a type without \
             parameters that wraps the concrete one";
        options::collect(&mut mistakes, Error::new_spanned(parameter, message));
    }
    let mut references = References { mistakes };
    match &input.data {
        Data::Struct(data) => data.fields.iter().for_each(|f| references.visit_field(f)),
        Data::Enum(data) => data.variants.iter().for_each(|v| references.visit_variant(v)),
        Data::Union(_) => {}
    }
    references.mistakes.map_or(Ok(()), Err)
}

/// Finds references in fields, and options in the wrong place.
struct References {
    mistakes: Option<Error>,
}

impl<'a> Visit<'a> for References {
    fn visit_attribute(&mut self, attribute: &'a Attribute) {
        if attribute.path().is_ident("event") {
            options::collect(
                &mut self.mistakes,
                Error::new_spanned(attribute, "`#[event(...)]` goes on the type, before `struct` or `enum`"),
            );
        }
    }

    fn visit_field(&mut self, field: &'a Field) {
        field.attrs.iter().for_each(|a| self.visit_attribute(a));
        // serde reads such a field in another way.
        if !field.attrs.iter().any(is_serde_skip_or_with) {
            self.visit_type(&field.ty);
        }
    }

    fn visit_type_reference(&mut self, reference: &'a TypeReference) {
        let message = "an event must own its data, because another worker reads it: use `String` for `&str`, `Vec<T>` \
                       for `&[T]`, `T` for `&T`";
        options::collect(&mut self.mistakes, Error::new_spanned(reference, message));
    }

    fn visit_type_bare_fn(&mut self, _: &'a syn::TypeBareFn) {}
}

fn is_serde_skip_or_with(attribute: &Attribute) -> bool {
    let mut found = false;
    if attribute.path().is_ident("serde") {
        let _ = attribute.parse_nested_meta(|meta| {
            let key = meta.path.get_ident().map(ToString::to_string).unwrap_or_default();
            found |= key.starts_with("skip") || key.ends_with("with");
            if let Ok(value) = meta.value() {
                value.parse::<syn::Expr>()?;
            }
            Ok(())
        });
    }
    found
}

#[cfg(test)]
mod tests {
    use syn::parse_quote;

    use super::*;

    fn output(input: &DeriveInput) -> String {
        expand(input).to_string()
    }

    #[test]
    fn an_event_is_named_after_its_type_or_as_it_says() {
        let own = output(&parse_quote!(
            struct Asked {
                question: String,
            }
        ));
        assert!(own.contains("Event for Asked") && own.contains("= \"Asked\""), "{own}");
        let given = output(&parse_quote!(
            #[event(name = "page.asked")]
            enum Asked {
                A,
                B(u8),
            }
        ));
        assert!(given.contains("= \"page.asked\""), "{given}");
        let raw = output(&parse_quote!(
            struct r#type;
        ));
        assert!(raw.contains("Event for r#type") && raw.contains("= \"type\""), "{raw}");
        for fine in [own, given, raw] {
            assert!(!fine.contains("compile_error"), "{fine}");
        }
    }

    #[test]
    fn mistakes_say_what_to_do() {
        let cases: [(DeriveInput, &str); 11] = [
            (
                parse_quote!(
                    struct A<'a> {
                        text: &'a str,
                    }
                ),
                "must own its data",
            ),
            (
                parse_quote!(
                    struct A {
                        text: &'static str,
                    }
                ),
                "must own its data",
            ),
            (
                parse_quote!(
                    enum A {
                        B(Vec<&'static str>),
                    }
                ),
                "must own its data",
            ),
            (
                parse_quote!(
                    struct A {
                        #[serde(default)]
                        text: &'static str,
                    }
                ),
                "must own its data",
            ),
            (
                parse_quote!(
                    struct A<T>(T);
                ),
                "cannot be generic",
            ),
            (
                parse_quote!(
                    struct A<const N: usize>([u8; N]);
                ),
                "cannot be generic",
            ),
            (parse_quote!(union A { a: u8 }), "struct or an enum"),
            (
                parse_quote!(
                    #[event(name = "a b")]
                    struct A;
                ),
                "has ' ' in it",
            ),
            (
                parse_quote!(
                    #[event(title = "a")]
                    struct A;
                ),
                "an event has `name`",
            ),
            (
                parse_quote!(
                    #[event(name = "a")]
                    #[event(name = "b")]
                    struct A;
                ),
                "given twice",
            ),
            (
                parse_quote!(
                    struct Größe;
                ),
                "or set `#[event",
            ),
        ];
        for (input, says) in cases {
            let output = output(&input);
            assert!(output.contains("compile_error") && output.contains(says), "{output}");
        }
        let misplaced = output(&parse_quote!(
            struct A {
                #[event(name = "x")]
                b: u8,
            }
        ));
        assert!(misplaced.contains("goes on the type"), "{misplaced}");
    }

    #[test]
    fn fields_that_serde_does_not_read_may_be_references() {
        let output = output(&parse_quote!(
            struct A {
                #[serde(default = "x", skip)]
                text: &'static str,
                f: fn(&u8),
            }
        ));
        assert!(!output.contains("compile_error"), "{output}");
    }
}
