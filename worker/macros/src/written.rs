//! `#[event]` and `#[data]`: types that are written down, with what serde needs for that.

use proc_macro2::{Span, TokenStream};
use quote::quote;
use syn::punctuated::Punctuated;
use syn::{Attribute, DeriveInput, Error, Path, Token};

use crate::fields;

/// What the attribute makes of a type.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Event,
    Data,
}

/// The type as it is, with the derives that it does not have yet.
pub(crate) fn expand(kind: Kind, options: &TokenStream, item: &TokenStream) -> TokenStream {
    let name = if kind == Kind::Event { "event" } else { "data" };
    let Ok(input) = syn::parse2::<DeriveInput>(item.clone()) else {
        let mistake = Error::new(Span::call_site(), format!("`#[{name}]` goes on a struct or an enum"));
        let mistake = mistake.to_compile_error();
        return quote!(#mistake #item);
    };
    let mistake = (kind == Kind::Data && !options.is_empty()).then(|| {
        Error::new_spanned(options, "`#[data]` has no options: those of serde go into `#[serde(...)]`")
            .to_compile_error()
    });
    let derived = derived(&input.attrs);
    let has = |name: &str| derived.iter().any(|known| known == name);
    let mut missing = Vec::new();
    if !has("Serialize") {
        missing.push(quote!(::stepfleet::serde::Serialize));
    }
    if !has("Deserialize") {
        missing.push(quote!(::stepfleet::serde::Deserialize));
    }
    if kind == Kind::Event && !has("Event") {
        missing.push(quote!(::stepfleet::__private::DeriveEvent));
    }
    let missing = (!missing.is_empty()).then(|| quote!(#[derive(#(#missing),*)]));
    let serde = (!says_crate(&input.attrs, "serde")).then(|| quote!(#[serde(crate = "::stepfleet::serde")]));
    let schemars = (has("JsonSchema") && !says_crate(&input.attrs, "schemars"))
        .then(|| quote!(#[schemars(crate = "::stepfleet::schemars")]));
    let options = (kind == Kind::Event && !options.is_empty()).then(|| quote!(#[event(#options)]));
    let DeriveInput { attrs: own, .. } = &input;
    let bare = DeriveInput { attrs: Vec::new(), ..input.clone() };
    // Options of a derive come after it: before it they are a macro of that name.
    quote!(#missing #(#own)* #serde #schemars #options #bare #mistake)
}

/// What the user derives, by the last part of each name.
fn derived(attributes: &[Attribute]) -> Vec<String> {
    let derives = attributes.iter().filter(|a| a.path().is_ident("derive"));
    let paths = derives.filter_map(|a| a.parse_args_with(Punctuated::<Path, Token![,]>::parse_terminated).ok());
    paths.flatten().filter_map(|path| path.segments.last().map(|last| last.ident.to_string())).collect()
}

fn says_crate(attributes: &[Attribute], of: &str) -> bool {
    fields::options(attributes, of).is_some_and(|options| options.iter().any(|(key, _)| key == "crate"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn output(kind: Kind, options: &TokenStream, item: &TokenStream) -> String {
        let output = expand(kind, options, item);
        output.to_string().replace(' ', "")
    }

    #[test]
    fn what_is_missing_is_derived_and_the_rest_stays() {
        let item = quote!(
            #[doc = "x"]
            #[derive(Clone, JsonSchema)]
            #[serde(rename_all = "camelCase")]
            pub struct Asked<'a, T> {
                #[serde(default)]
                a: T,
            }
        );
        let event = output(Kind::Event, &quote!(name = "page.asked"), &item);
        let all = "#[derive(::stepfleet::serde::Serialize,::stepfleet::serde::Deserialize,\
                   ::stepfleet::__private::DeriveEvent)]#[doc=\"x\"]#[derive(Clone,JsonSchema)]\
                   #[serde(rename_all=\"camelCase\")]#[serde(crate=\"::stepfleet::serde\")]\
                   #[schemars(crate=\"::stepfleet::schemars\")]#[event(name=\"page.asked\")]pubstructAsked";
        assert!(event.starts_with(all), "{event}");
        let data = output(Kind::Data, &quote!(), &item);
        let two = "#[derive(::stepfleet::serde::Serialize,::stepfleet::serde::Deserialize)]#[doc=\"x\"]";
        assert!(data.starts_with(two) && !data.contains("Event") && !data.contains("[event"), "{data}");
    }

    #[test]
    fn nothing_is_derived_twice() {
        let own = quote!(#[derive(serde::Serialize, Deserialize, stepfleet::prelude::Event)]);
        let item = quote!(#own #[serde(crate = "other")] enum A { B });
        assert_eq!(output(Kind::Event, &quote!(), &item), item.to_string().replace(' ', ""));
    }

    #[test]
    fn mistakes_say_what_to_do() {
        let on_function = output(
            Kind::Event,
            &quote!(),
            &quote!(
                fn a() {}
            ),
        );
        assert!(on_function.contains("`#[event]`goesonastructoranenum") && on_function.contains("fna()"));
        let options = output(
            Kind::Data,
            &quote!(name = "x"),
            &quote!(
                struct A;
            ),
        );
        assert!(options.contains("hasnooptions") && options.contains("structA;"), "{options}");
    }
}
