//! `#[derive(Emit)]`.

use proc_macro2::TokenStream;
use quote::{quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{Data, DeriveInput, Error, Fields, Result, Type, Variant};

use crate::options;

pub(crate) fn expand(input: &DeriveInput) -> TokenStream {
    let variants = variants(input);
    let ends = variants.as_ref().is_ok_and(|all| all.iter().any(|v| matches!(v.fields, Fields::Unit)));
    let ends = ends.then(|| quote!(shape.ends = true;));
    let (types, arms, mistakes) = match variants {
        Ok(variants) => read(&variants),
        Err(mistake) => (Vec::new(), quote!(_ => ::core::unreachable!(),), Some(mistake)),
    };
    let arms = if mistakes.is_some() { quote!(_ => ::core::unreachable!(),) } else { arms };
    let mistakes = mistakes.map(|m| m.to_compile_error());
    let ident = &input.ident;
    let (generics, arguments, bounds) = input.generics.split_for_impl();
    let shapes = types.iter().map(|ty| quote_spanned!(ty.span()=> <#ty as ::stepfleet::Emit>::shape(shape);));
    quote! {
        #[automatically_derived]
        impl #generics ::stepfleet::Emit for #ident #arguments #bounds {
            fn shape(shape: &mut ::stepfleet::__private::Shape) {
                let _ = &shape;
                #(#shapes)*
                #ends
            }
            fn emit(
                self,
                emission: &mut ::stepfleet::__private::Emission,
            ) -> ::core::result::Result<(), ::stepfleet::Error> {
                let _ = &emission;
                match self { #arms }
            }
        }
        #mistakes
    }
}

fn variants(input: &DeriveInput) -> Result<Vec<&Variant>> {
    match &input.data {
        Data::Enum(data) if !data.variants.is_empty() => Ok(data.variants.iter().collect()),
        Data::Enum(_) => Err(Error::new(
            input.ident.span(),
            "an enum without variants cannot be returned: give it one for each event, or let the step return `()`",
        )),
        Data::Struct(data) => Err(Error::new(
            data.struct_token.span,
            "`Emit` is derived for enums of events: a struct is an event itself, with `#[event]`",
        )),
        Data::Union(data) => Err(Error::new(data.union_token.span, "`Emit` is derived for enums of events")),
    }
}

fn read<'a>(variants: &[&'a Variant]) -> (Vec<&'a Type>, TokenStream, Option<Error>) {
    let (mut types, mut arms, mut mistakes) = (Vec::new(), TokenStream::new(), None);
    for variant in variants {
        let name = &variant.ident;
        match event(variant) {
            Ok(Some(ty)) => {
                types.push(ty);
                arms.extend(quote_spanned! {ty.span()=>
                    Self::#name(returned) => ::stepfleet::Emit::emit(returned, emission),
                });
            }
            Ok(None) => arms.extend(quote!(Self::#name { .. } => ::core::result::Result::Ok(()),)),
            Err(mistake) => options::collect(&mut mistakes, mistake),
        }
    }
    (types, arms, mistakes)
}

/// The type that a variant holds; None if it emits nothing.
fn event(variant: &Variant) -> Result<Option<&Type>> {
    match &variant.fields {
        Fields::Unit => Ok(None),
        Fields::Unnamed(fields) if fields.unnamed.len() == 1 => Ok(Some(&fields.unnamed[0].ty)),
        Fields::Unnamed(fields) => Err(Error::new_spanned(
            fields,
            format!(
                "a variant holds one event (or `Option` or `Vec` of one): move the fields into one event, `{}(Event)`",
                variant.ident
            ),
        )),
        Fields::Named(fields) => Err(Error::new_spanned(
            fields,
            format!(
                "a variant holds one event, without a name: write `{0}(Event)`, or `{0}` to emit nothing",
                variant.ident
            ),
        )),
    }
}

#[cfg(test)]
mod tests {
    use syn::parse_quote;

    use super::*;

    #[test]
    fn each_variant_adds_its_shape_and_emits_its_event() {
        let input = parse_quote!(
            enum Verdict {
                Again(Asked),
                Many(Vec<Word>),
                Nothing,
            }
        );
        let output = expand(&input).to_string();
        for part in [
            "Emit for Verdict",
            "< Asked as :: stepfleet :: Emit > :: shape (shape)",
            "< Vec < Word > as :: stepfleet :: Emit > :: shape (shape)",
            "Self :: Many (returned) => :: stepfleet :: Emit :: emit (returned , emission)",
            "shape . ends = true ;",
            "Self :: Nothing { .. } => :: core :: result :: Result :: Ok (())",
        ] {
            assert!(output.contains(part), "{part} is not in {output}");
        }
        assert!(!output.contains("compile_error"), "{output}");
        syn::parse_str::<syn::File>(&output).unwrap();
    }

    #[test]
    fn mistakes_say_what_to_do() {
        let cases: [(DeriveInput, &str); 6] = [
            (
                parse_quote!(
                    struct A(u8);
                ),
                "a struct is an event itself",
            ),
            (parse_quote!(union A { a: u8 }), "enums of events"),
            (
                parse_quote!(
                    enum A {}
                ),
                "without variants",
            ),
            (
                parse_quote!(
                    enum A {
                        B(u8, u8),
                    }
                ),
                "`B(Event)`",
            ),
            (
                parse_quote!(
                    enum A {
                        B(),
                    }
                ),
                "`B(Event)`",
            ),
            (
                parse_quote!(
                    enum A {
                        B { c: u8 },
                    }
                ),
                "or `B` to emit nothing",
            ),
        ];
        for (input, says) in cases {
            let output = expand(&input).to_string();
            assert!(output.contains("compile_error") && output.contains(says), "{output}");
        }
    }
}
