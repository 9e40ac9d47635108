//! `#[workflow]`: an impl block, and the definition made from its steps.

use proc_macro2::{Span, TokenStream};
use quote::{quote, quote_spanned};
use syn::ext::IdentExt;
use syn::parse::{ParseStream, Parser};
use syn::spanned::Spanned;
use syn::{Error, Expr, ImplItem, Item, ItemImpl, LitStr, Result, Type};

use crate::step::{self, Step};
use crate::{escape, options};

const KNOWN: [&str; 9] =
    ["start", "stop", "external", "version", "name", "retention", "timeout", "durability", "retry"];

#[derive(Default)]
struct Options {
    start: Option<Type>,
    stop: Option<Type>,
    external: Vec<Type>,
    version: Option<u32>,
    name: Option<LitStr>,
    retention: Option<TokenStream>,
    timeout: Option<TokenStream>,
    durability: Option<TokenStream>,
    retry: Option<Expr>,
}

/// The block as it is, and an impl of `Workflow`. With a mistake, that impl is hollow: uses of the workflow are not
/// reported too.
pub(crate) fn expand(options: TokenStream, item: &TokenStream) -> TokenStream {
    let mut block = match block(item.clone()) {
        Ok(block) => block,
        Err(mistake) => {
            let mistake = mistake.to_compile_error();
            return quote!(#mistake #item);
        }
    };
    let mut mistakes = None;
    let steps = steps(&mut block, &mut mistakes);
    let definition = match Options::new(options) {
        Ok(options) => definition(&options, &block, &steps).map_err(|m| options::collect(&mut mistakes, m)).ok(),
        Err(mistake) => {
            options::collect(&mut mistakes, mistake);
            None
        }
    };
    let body = definition.filter(|_| mistakes.is_none()).unwrap_or_else(|| quote!(::core::unreachable!()));
    let mistakes = mistakes.map(|m| m.to_compile_error());
    let (generics, _, bounds) = block.generics.split_for_impl();
    let own = &block.self_ty;
    let head = quote_spanned!(own.span()=> impl #generics ::stepfleet::Workflow for #own #bounds);
    quote! {
        #block
        #[automatically_derived]
        #head {
            fn definition() -> ::stepfleet::__private::Definition<Self> { #body }
        }
        #mistakes
    }
}

/// The block, if it is the right one.
fn block(item: TokenStream) -> Result<ItemImpl> {
    let example = "`#[workflow]` goes on the `impl` block that has the steps, such as `impl Letters { ... }`";
    match syn::parse2::<Item>(item)? {
        Item::Impl(block) => match &block.trait_ {
            Some((_, path, _)) => Err(Error::new_spanned(path, format!("{example}: not on that of a trait"))),
            None => Ok(block),
        },
        Item::Struct(other) => Err(Error::new(other.struct_token.span, example)),
        Item::Enum(other) => Err(Error::new(other.enum_token.span, example)),
        _ => Err(Error::new(Span::call_site(), example)),
    }
}

/// Takes the steps out of their attributes.
fn steps(block: &mut ItemImpl, mistakes: &mut Option<Error>) -> Vec<Step> {
    let (mut steps, mut any) = (Vec::<Step>::new(), false);
    for item in &mut block.items {
        let misplaced = match item {
            ImplItem::Fn(method) => {
                let Some(step) = step::take(method) else { continue };
                any = true;
                if let Some(escapes) = escape::check(&method.sig, &method.block) {
                    options::collect(mistakes, escapes);
                }
                match step.and_then(|step| distinct(step, &steps)) {
                    Ok(step) => steps.push(step),
                    Err(mistake) => options::collect(mistakes, mistake),
                }
                continue;
            }
            ImplItem::Const(other) => step::misplaced(&mut other.attrs),
            ImplItem::Type(other) => step::misplaced(&mut other.attrs),
            ImplItem::Macro(other) => step::misplaced(&mut other.attrs),
            _ => None,
        };
        if let Some(mistake) = misplaced {
            options::collect(mistakes, mistake);
        }
    }
    if !any {
        let message = "this workflow has no steps: put `#[step]` on its async methods";
        options::collect(mistakes, Error::new_spanned(&block.self_ty, message));
    }
    steps
}

/// Two steps of one name are a mistake, unless it depends on conditions which of them is there.
fn distinct(step: Step, others: &[Step]) -> Result<Step> {
    let name = step.name.value();
    let clash = others.iter().any(|o| o.name.value() == name && o.conditions.is_empty() && step.conditions.is_empty());
    if clash {
        let message = format!("another step is named `{name}`: rename one, or set `#[step(name = \"...\")]`");
        return Err(Error::new(step.name.span(), message));
    }
    Ok(step)
}

impl Options {
    fn new(tokens: TokenStream) -> Result<Self> {
        let mut found = Self::default();
        let read = |input: ParseStream| {
            options::read_all(input, "a workflow", &KNOWN, |key, value| {
                match key {
                    "start" => found.start = Some(options::event(key, value)?),
                    "stop" => found.stop = Some(options::event(key, value)?),
                    "external" => found.external = options::events(key, value)?,
                    "version" => found.version = Some(options::whole(key, value)?),
                    "name" => found.name = Some(options::name(value)?),
                    "retry" => found.retry = Some(options::policy(value)?),
                    "durability" => found.durability = Some(options::durability(value)?),
                    "timeout" => found.timeout = Some(options::duration(key, value)?),
                    _ => found.retention = Some(options::duration(key, value)?),
                }
                Ok(())
            })
        };
        read.parse2(tokens)?;
        Ok(found)
    }
}

fn definition(options: &Options, block: &ItemImpl, steps: &[Step]) -> Result<TokenStream> {
    let missing = |what: &str| Error::new(Span::call_site(), what);
    let start = options.start.as_ref().ok_or_else(|| {
        missing("`start` is missing: add the event that a run begins with, `#[workflow(start = Asked, ...)]`")
    });
    let stop = options.stop.as_ref().ok_or_else(|| {
        missing("`stop` is missing: add the event that ends a run, `#[workflow(stop = Answered, ...)]`")
    });
    let (start, stop) = match (start, stop) {
        (Err(mut start), Err(stop)) => {
            start.combine(stop);
            return Err(start);
        }
        (start, stop) => (start?, stop?),
    };
    let name = options.name.clone().map_or_else(|| default_name(&block.self_ty), Ok)?;
    let version = options.version.unwrap_or(1);
    let week = quote!(::stepfleet::__private::Duration::new(604_800, 0));
    let retention = options.retention.as_ref().unwrap_or(&week);
    let timeout = options::optional(options.timeout.as_ref());
    let durability = options::durability_or_none(options.durability.as_ref());
    let retry = options.retry.as_ref().map_or_else(|| options::optional(None), options::some_policy);
    let (start, stop) = (options::event_name(start), options::event_name(stop));
    let external = options.external.iter().map(options::event_name);
    let seen = options.start.iter().chain(&options.stop).chain(&options.external).map(options::event_schema);
    let all = syn::Ident::new(step::STEPS, Span::mixed_site());
    Ok(quote! {
        #[allow(unused_mut, clippy::vec_init_then_push)]
        let mut #all = ::std::vec::Vec::new();
        #(#steps)*
        ::stepfleet::__private::Definition {
            name: #name,
            version: #version,
            start: #start,
            stop: #stop,
            external: ::std::vec![#(#external),*],
            schemas: ::std::collections::BTreeMap::from([#(#seen),*]),
            retention: #retention,
            timeout: #timeout,
            durability: #durability,
            retry: #retry,
            steps: #all,
        }
    })
}

/// The type's name in snake case.
fn default_name(own: &Type) -> Result<LitStr> {
    let ident = match own {
        Type::Path(path) => path.path.segments.last().map(|last| last.ident.clone()),
        _ => None,
    };
    let ident = ident.ok_or_else(|| Error::new_spanned(own, "this workflow has no name: set `name = \"...\"`"))?;
    let name = snake_case(&ident.unraw().to_string());
    options::check_name(&name, ident.span())
        .map_err(|e| Error::new(e.span(), format!("{e}; or set `#[workflow(name = \"...\")]`")))?;
    Ok(LitStr::new(&name, ident.span()))
}

/// `HTTPGet2Pages` is `http_get2_pages`.
fn snake_case(name: &str) -> String {
    let letters: Vec<char> = name.chars().collect();
    let mut snake = String::new();
    for (at, letter) in letters.iter().enumerate() {
        let before = at.checked_sub(1).map(|at| letters[at]);
        let after = letters.get(at + 1);
        let begins = letter.is_uppercase()
            && before.is_some_and(|b| b != '_' && (!b.is_uppercase() || after.is_some_and(|a| a.is_lowercase())));
        if begins {
            snake.push('_');
        }
        snake.extend(letter.to_lowercase());
    }
    snake
}

#[cfg(test)]
#[path = "workflow_tests.rs"]
mod tests;
