//! `#[durable]`: a function as it is, and beside it a workflow with one step that calls it.

use proc_macro2::{Span, TokenStream};
use quote::{ToTokens, quote, quote_spanned};
use syn::ext::IdentExt;
use syn::parse::{ParseStream, Parser};
use syn::spanned::Spanned;
use syn::{Error, Expr, FnArg, ItemFn, LitStr, Result, Signature, Type, TypeReference};

use crate::signature::{first_argument, has_impl_trait, is_context, text};
use crate::{escape, options};

const KNOWN: [&str; 7] = ["name", "version", "timeout", "retention", "durability", "retries", "retry"];
const SHAPE: &str = "async fn name(ctx: &Context, input: Input) -> Outcome<Output>";

#[derive(Default)]
struct Options {
    name: Option<LitStr>,
    version: Option<u32>,
    timeout: Option<TokenStream>,
    durability: Option<TokenStream>,
    retention: Option<TokenStream>,
    retry: Option<TokenStream>,
    /// Where the option `retries` is.
    retries: Option<Expr>,
}

/// The types in the function's signature.
struct Parts {
    context: TypeReference,
    /// Without its `&`.
    resource: Option<Type>,
    input: Type,
    output: Type,
}

/// What the attribute makes of a function.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Durable,
    Task,
}

impl Kind {
    /// A mistake in this one's words.
    fn told(self, mistake: Error) -> Error {
        if self == Self::Durable {
            return mistake;
        }
        let told = |mistake: Error| {
            let text = mistake.to_string();
            Error::new(mistake.span(), text.replace("a durable function", "a task").replace("#[durable", "#[task"))
        };
        let mut all = mistake.into_iter().map(told);
        let first = all.next().unwrap_or_else(|| Error::new(Span::call_site(), "this task cannot be read"));
        all.fold(first, |mut first, next| {
            first.combine(next);
            first
        })
    }
}

/// With a mistake the workflow is hollow, so that its uses are not reported too.
pub(crate) fn expand(kind: Kind, options: TokenStream, item: &TokenStream) -> TokenStream {
    let Ok(function) = syn::parse2::<ItemFn>(item.clone()) else {
        let message = format!("`#[durable]` goes on a function: `{SHAPE}`");
        let mistake = kind.told(Error::new(Span::call_site(), message)).to_compile_error();
        return quote!(#mistake #item);
    };
    let mut mistakes = None;
    let mut keep = |mistake| options::collect(&mut mistakes, mistake);
    let options = Options::new(options).map_err(&mut keep).ok();
    let parts = read(&function.sig).map_err(&mut keep).ok();
    let name = options.as_ref().and_then(|options| name(options, &function.sig).map_err(&mut keep).ok());
    let workflow = match (options, parts, name) {
        (Some(options), Some(parts), Some(name)) => workflow(kind, &options, &function, &parts, &name),
        _ => hollow(&function),
    };
    if let Some(escapes) = escape::check(&function.sig, &function.block) {
        options::collect(&mut mistakes, escapes);
    }
    let mistakes = mistakes.map(|mistakes: Error| kind.told(mistakes).to_compile_error());
    quote! {
        // It is async because a step must be.
        #[allow(clippy::unused_async)]
        #item
        #workflow
        #mistakes
    }
}

impl Options {
    fn new(tokens: TokenStream) -> Result<Self> {
        let mut found = Self::default();
        let read = |input: ParseStream| {
            options::read_all(input, "a durable function", &KNOWN, |key, value| {
                match key {
                    "name" => found.name = Some(options::name(value)?),
                    "version" => found.version = Some(options::whole(key, value)?),
                    "durability" => found.durability = Some(options::durability(value)?),
                    "timeout" => found.timeout = Some(options::duration(key, value)?),
                    "retention" => found.retention = Some(options::duration(key, value)?),
                    "retries" => {
                        let attempts = options::whole(key, value)?.saturating_add(1);
                        let policy = quote!(::stepfleet::__private::RetryPolicy::default().attempts(#attempts));
                        found.retry = Some(options::optional(Some(&policy)));
                    }
                    _ => found.retries = Some(options::policy(value)?),
                }
                Ok(())
            })
        };
        read.parse2(tokens)?;
        match (&found.retries, &found.retry) {
            (Some(policy), Some(_)) => Err(Error::new_spanned(
                policy,
                "`retry` is the whole policy: remove `retries`, and put them into the policy, such as \
                 `RetryPolicy::exponential(first).attempts(5)`",
            )),
            (Some(policy), None) => {
                found.retry = Some(options::some_policy(policy));
                Ok(found)
            }
            _ => Ok(found),
        }
    }
}

fn name(options: &Options, signature: &Signature) -> Result<LitStr> {
    let own = || {
        let own = signature.ident.unraw().to_string();
        options::check_name(&own, signature.ident.span())
            .map_err(|e| Error::new(e.span(), format!("{e}; or set `#[durable(name = \"...\")]`")))?;
        Ok(LitStr::new(&own, signature.ident.span()))
    };
    options.name.clone().map_or_else(own, Ok)
}

/// Finds the types, or all mistakes.
fn read(signature: &Signature) -> Result<Parts> {
    let mut mistakes = None;
    if signature.asyncness.is_none() {
        let message = "a durable function is async: write `async fn`";
        options::collect(&mut mistakes, Error::new(signature.fn_token.span, message));
    }
    if let Some(token) = &signature.unsafety {
        options::collect(&mut mistakes, Error::new(token.span, "a durable function cannot be unsafe: remove `unsafe`"));
    }
    let generics = &signature.generics;
    let bounds = generics.where_clause.as_ref().map(ToTokens::to_token_stream);
    if let Some(place) = (!generics.params.is_empty()).then(|| generics.params.to_token_stream()).or(bounds) {
        let message = "a durable function cannot be generic, because the runtime calls it: name the types";
        options::collect(&mut mistakes, Error::new_spanned(place, message));
    }
    let parameters = parameters(signature).map_err(|mistake| options::collect(&mut mistakes, mistake));
    let output = output(signature).map_err(|mistake| options::collect(&mut mistakes, mistake));
    match (mistakes, parameters, output) {
        (None, Ok((context, resource, input)), Ok(output)) => Ok(Parts { context, resource, input, output }),
        (Some(mistakes), ..) => Err(mistakes),
        _ => Err(Error::new(signature.ident.span(), "this function cannot be read")),
    }
}

fn parameters(signature: &Signature) -> Result<(TypeReference, Option<Type>, Type)> {
    if let Some(receiver) = signature.receiver() {
        let message = "a durable function has no `self`: take what it uses by reference, after the context, such as \
                       `shop: &Shop`; the steps of a workflow have `&self`";
        return Err(Error::new_spanned(receiver, message));
    }
    let types = signature.inputs.iter().filter_map(|input| match input {
        FnArg::Typed(typed) => Some(&*typed.ty),
        FnArg::Receiver(_) => None,
    });
    let types: Vec<&Type> = types.collect();
    let end = signature.paren_token.span.close();
    let (context, rest) = match types[..] {
        [Type::Reference(context), ref rest @ ..] if is_context(&context.elem) => (context, rest),
        [context, ..] if is_context(context) => {
            let message = format!("take the context by reference: `&{}`", text(context));
            return Err(Error::new_spanned(context, message));
        }
        [first, ..] => {
            let message = format!("a durable function takes the context first: `{SHAPE}`");
            return Err(Error::new_spanned(first, message));
        }
        [] => return Err(Error::new(end, format!("a durable function takes the context and an input: `{SHAPE}`"))),
    };
    if let Some(token) = context.mutability {
        return Err(Error::new(token.span, "take the context as `&Context<...>`: its methods need no `mut`"));
    }
    let (resource, input) = match rest {
        [Type::Reference(resource)] => {
            let message = format!(
                "a durable function takes an input by value, as its last parameter: write `{0}`, or add an input after \
                 the resource `&{0}` (`(): ()` for none)",
                text(&resource.elem)
            );
            return Err(Error::new_spanned(resource, message));
        }
        [input] => (None, *input),
        [Type::Reference(resource), input] => (Some(resource), *input),
        [resource, _] => {
            let message = format!("take the resource by reference, because runs share it: `&{}`", text(resource));
            return Err(Error::new_spanned(resource, message));
        }
        [] => {
            return Err(Error::new(end, "a durable function takes an input after the context, such as `order: Order`"));
        }
        [_, _, third, ..] => {
            let message = "a durable function takes the context, one resource and one input: combine several in a \
                 struct";
            return Err(Error::new_spanned(third, message));
        }
    };
    if let Some(token) = resource.and_then(|resource| resource.mutability) {
        return Err(Error::new(
            token.span,
            "runs share the resource: take it as `&`, and put what changes behind a `Mutex`",
        ));
    }
    match input {
        Type::Reference(reference) => {
            let message = format!("take the input by value: `{}`", text(&reference.elem));
            Err(Error::new_spanned(reference, message))
        }
        input if has_impl_trait(input) => {
            Err(Error::new_spanned(input, "a durable function cannot be generic: name the input's type"))
        }
        input => Ok((context.clone(), resource.map(|resource| (*resource.elem).clone()), input.clone())),
    }
}

fn output(signature: &Signature) -> Result<Type> {
    let syn::ReturnType::Type(_, ty) = &signature.output else {
        let message = "a durable function returns `Outcome<...>`: write `-> Outcome<Output>`, or `-> Outcome<()>`";
        return Err(Error::new(signature.paren_token.span.close(), message));
    };
    let Some(output) = first_argument(ty) else {
        let why = "a durable function returns `Outcome<...>`, because it can fail";
        return Err(Error::new_spanned(ty, format!("{why}: write `-> Outcome<{}>`", text(ty))));
    };
    if has_impl_trait(output) {
        return Err(Error::new_spanned(output, "name the type that the function returns"));
    }
    Ok(output.clone())
}

/// The type that is served, in the namespace of types, so that it does not clash with the function.
fn workflow(kind: Kind, options: &Options, function: &ItemFn, parts: &Parts, name: &LitStr) -> TokenStream {
    let Parts { context, resource, input, output } = parts;
    let (own, visibility) = (&function.sig.ident, &function.vis);
    let conditions: Vec<_> = function.attrs.iter().filter(|a| a.path().is_ident("cfg")).collect();
    let version = options.version.unwrap_or(1);
    let timeout = options::optional(options.timeout.as_ref());
    let durability = options::durability_or_none(options.durability.as_ref());
    let week = quote!(::stepfleet::__private::Duration::new(604_800, 0));
    let retention = options.retention.as_ref().unwrap_or(&week);
    let none = options::optional(None);
    let retry = options.retry.as_ref().unwrap_or(&none);
    let (field, make) = match resource {
        None => (
            quote!(),
            quote! {
                /// What a worker serves.
                #[allow(dead_code)]
                #visibility fn workflow() -> Self { Self {} }
            },
        ),
        Some(resource) => {
            let at = at(resource);
            let field = quote_spanned!(at=> resource: ::stepfleet::__private::Arc<#resource>);
            let make = quote_spanned! {at=>
                /// What a worker serves, with what the function uses; an `Arc` of it will do too.
                #[allow(dead_code)]
                #visibility fn with(resource: impl ::core::convert::Into<::stepfleet::__private::Arc<#resource>>) -> Self {
                    Self { resource: resource.into() }
                }
            };
            (field, make)
        }
    };
    let call = Span::mixed_site().located_at(own.span());
    let read = quote_spanned!(at(input)=> attempt.input::<#input>()?);
    let given = resource.as_ref().map(|resource| quote_spanned!(at(resource)=> &workflow.resource,));
    let emission = quote_spanned!(at(output)=> attempt.output::<#output>(output));
    let context_at = Span::mixed_site().located_at(context.span());
    let (make_context, context) =
        (quote_spanned!(context_at=> let context = attempt.context();), quote_spanned!(context_at=> &context,));
    let run = quote_spanned! {call=>
        |workflow, attempt| ::stepfleet::__private::Box::pin(async move {
            let input = #read;
            #make_context
            let output = #own(#context #given input).await?;
            #emission
        })
    };
    let schema = |ty: &Type, name: &str| {
        quote! {(
            ::std::string::String::from(#name),
            (&::stepfleet::__private::Probe::<#ty>::new()).schema(#name, ::core::option::Option::None),
        )}
    };
    let (taken, came) = (schema(input, "Input"), schema(output, "Output"));
    // The body of a task is work itself.
    let task = if kind == Kind::Task { quote!(.of_task()) } else { quote!() };
    let allow = quote!(#[allow(non_camel_case_types, missing_docs, missing_debug_implementations, private_interfaces)]);
    quote! {
        #(#conditions)*
        #allow
        #visibility struct #own { #field }

        #(#conditions)*
        #[automatically_derived]
        impl #own { #make }

        #(#conditions)*
        #[automatically_derived]
        impl ::stepfleet::Function for #own {
            const NAME: &'static str = #name;
            type Input = #input;
            type Output = #output;
        }

        #(#conditions)*
        #[automatically_derived]
        impl ::stepfleet::Workflow for #own {
            fn definition() -> ::stepfleet::__private::Definition<Self> {
                #[allow(unused_imports)]
                use ::stepfleet::__private::{Typed as _, Untyped as _};
                ::stepfleet::__private::Definition {
                    name: #name,
                    version: #version,
                    start: "Input",
                    stop: "Output",
                    external: ::std::vec![],
                    schemas: ::std::collections::BTreeMap::from([#taken, #came]),
                    retention: #retention,
                    timeout: #timeout,
                    durability: #durability,
                    retry: #retry,
                    steps: ::std::vec![::stepfleet::__private::Step::<Self>::of_function(#name, #run)#task],
                }
            }
        }
    }
}

/// Stands for the workflow of a function with a mistake.
fn hollow(function: &ItemFn) -> TokenStream {
    let (own, visibility) = (&function.sig.ident, &function.vis);
    quote! {
        #[allow(non_camel_case_types, missing_docs, missing_debug_implementations)]
        #visibility struct #own {}
        #[automatically_derived]
        impl #own {
            #[allow(dead_code)]
            #visibility fn workflow() -> Self { ::core::unreachable!() }
            #[allow(dead_code)]
            #visibility fn with<R>(_: R) -> Self { ::core::unreachable!() }
        }
        #[automatically_derived]
        impl ::stepfleet::Workflow for #own {
            fn definition() -> ::stepfleet::__private::Definition<Self> { ::core::unreachable!() }
        }
    }
}

/// The span of a type, for names that users cannot see.
fn at(ty: &Type) -> Span {
    Span::mixed_site().located_at(ty.span())
}

#[cfg(test)]
mod tests {
    use syn::parse_quote;

    use super::*;

    #[test]
    fn the_types_are_found() {
        let plain = read(&parse_quote!(async fn a(ctx: &Context, n: u8) -> Outcome<()>)).unwrap();
        assert!(plain.resource.is_none());
        assert_eq!((text(&plain.input), text(&plain.output)), ("u8".into(), "()".into()));
        let full =
            read(&parse_quote!(async fn a(_: &w::Context<M>, shop: &Shop, (a, b): (A, B)) -> Result<Vec<C>, Error>));
        let full = full.unwrap();
        assert_eq!(full.resource.map(|resource| text(&resource)), Some("Shop".into()));
    }

    #[test]
    fn each_mistake_says_what_to_do() {
        let cases: Vec<(Signature, &str)> = vec![
            (parse_quote!(fn a(ctx: &Context, i: I) -> Outcome<O>), "write `async fn`"),
            (parse_quote!(async unsafe fn a(ctx: &Context, i: I) -> Outcome<O>), "remove `unsafe`"),
            (parse_quote!(async fn a<T>(ctx: &Context, i: I) -> Outcome<O>), "cannot be generic"),
            (parse_quote!(async fn a(&self, ctx: &Context, i: I) -> Outcome<O>), "has no `self`"),
            (parse_quote!(async fn a() -> Outcome<O>), "takes the context and an input"),
            (parse_quote!(async fn a(i: I) -> Outcome<O>), "takes the context first"),
            (parse_quote!(async fn a(i: I, ctx: &Context) -> Outcome<O>), "takes the context first"),
            (parse_quote!(async fn a(ctx: Context<M>, i: I) -> Outcome<O>), "by reference: `&Context<M>`"),
            (parse_quote!(async fn a(ctx: &mut Context, i: I) -> Outcome<O>), "need no `mut`"),
            (parse_quote!(async fn a(ctx: &Context) -> Outcome<O>), "an input after the context"),
            (parse_quote!(async fn a(ctx: &Context, i: &I) -> Outcome<O>), "write `I`"),
            (parse_quote!(async fn a(ctx: &Context, s: S, i: I) -> Outcome<O>), "share it: `&S`"),
            (parse_quote!(async fn a(ctx: &Context, s: &mut S, i: I) -> Outcome<O>), "behind a `Mutex`"),
            (parse_quote!(async fn a(ctx: &Context, s: &S, i: &I) -> Outcome<O>), "by value: `I`"),
            (parse_quote!(async fn a(ctx: &Context, s: &S, i: I, j: J) -> Outcome<O>), "in a struct"),
            (parse_quote!(async fn a(ctx: &Context, i: impl T) -> Outcome<O>), "name the input's type"),
            (parse_quote!(async fn a(ctx: &Context, i: I)), "or `-> Outcome<()>`"),
            (parse_quote!(async fn a(ctx: &Context, i: I) -> O), "write `-> Outcome<O>`"),
            (
                parse_quote!(async fn a(ctx: &Context, i: I) -> Outcome<impl T>),
                "name the type that the function returns",
            ),
        ];
        for (signature, says) in cases {
            let mistakes: Vec<String> = read(&signature).err().into_iter().flatten().map(|e| e.to_string()).collect();
            let written = signature.to_token_stream();
            assert!(mistakes.len() == 1 && mistakes[0].contains(says), "{written}: {mistakes:?}");
        }
    }
}
