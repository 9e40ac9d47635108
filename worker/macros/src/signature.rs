//! What a step's signature says, and what is wrong with it.

use quote::ToTokens;
use syn::spanned::Spanned;
use syn::visit::{self, Visit};
use syn::{
    Error, FnArg, GenericArgument, PathArguments, Receiver, Result, ReturnType, Signature, Type, TypeImplTrait,
    TypeReference,
};

use crate::options;

/// The types in a step's signature.
pub(crate) struct Parts {
    /// The context, as a reference.
    pub(crate) context: Option<TypeReference>,
    pub(crate) event: Type,
    /// What it returns inside of `Outcome<...>`.
    pub(crate) returned: Type,
}

/// Finds the types, or all mistakes.
pub(crate) fn read(signature: &Signature) -> Result<Parts> {
    let mut mistakes = None;
    if signature.asyncness.is_none() {
        let message = "a step is async: write `async fn`";
        options::collect(&mut mistakes, Error::new(signature.fn_token.span, message));
    }
    if let Some(token) = &signature.unsafety {
        options::collect(&mut mistakes, Error::new(token.span, "a step cannot be unsafe: remove `unsafe`"));
    }
    let generics = &signature.generics;
    let bounds = generics.where_clause.as_ref().map(ToTokens::to_token_stream);
    if let Some(place) = (!generics.params.is_empty()).then(|| generics.params.to_token_stream()).or(bounds) {
        let message = "a step cannot be generic, because the runtime calls it: name the types";
        options::collect(&mut mistakes, Error::new_spanned(place, message));
    }
    keep(&mut mistakes, receiver(signature));
    let parameters = keep(&mut mistakes, parameters(signature));
    let returned = keep(&mut mistakes, returned(signature));
    match (mistakes, parameters, returned) {
        (None, Some((context, event)), Some(returned)) => Ok(Parts { context, event, returned }),
        (Some(mistakes), ..) => Err(mistakes),
        (None, ..) => Err(Error::new(signature.ident.span(), "this step cannot be read")),
    }
}

fn keep<T>(mistakes: &mut Option<Error>, result: Result<T>) -> Option<T> {
    result.map_err(|mistake| options::collect(mistakes, mistake)).ok()
}

fn receiver(signature: &Signature) -> Result<()> {
    let Some(receiver) = signature.receiver() else {
        let message = "a step takes `&self` first: the workflow, with its resources";
        return Err(Error::new(signature.paren_token.span.open(), message));
    };
    match receiver {
        Receiver { reference: Some(_), mutability: None, .. } => Ok(()),
        Receiver { reference: Some(_), .. } => Err(Error::new_spanned(
            receiver,
            "a step takes `&self`, because steps share the workflow: what changes goes into the context, or behind a \
             `Mutex`",
        )),
        _ => Err(Error::new_spanned(receiver, "a step takes `&self`, because steps share the workflow")),
    }
}

/// The parameters after `self`.
fn parameters(signature: &Signature) -> Result<(Option<TypeReference>, Type)> {
    let types = signature.inputs.iter().filter_map(|input| match input {
        FnArg::Typed(typed) => Some(&*typed.ty),
        FnArg::Receiver(_) => None,
    });
    let types: Vec<&Type> = types.collect();
    let (context, event) = match types[..] {
        [] => {
            let message = "a step takes an event: add it as the last parameter, such as `ev: Asked`";
            return Err(Error::new(signature.paren_token.span.close(), message));
        }
        [Type::Reference(only)] if is_context(&only.elem) => {
            let message = "a step takes an event: add it after the context, such as `ev: Asked`";
            return Err(Error::new(signature.paren_token.span.close(), message));
        }
        [event] => (None, event),
        [Type::Reference(context), event] => (Some(context.clone()), event),
        [context, _] if is_context(context) => {
            let message = format!("take the context by reference: `&{}`", text(context));
            return Err(Error::new_spanned(context, message));
        }
        [_, Type::Reference(context)] if is_context(&context.elem) => {
            return Err(Error::new_spanned(context, "the context comes before the event: swap the two"));
        }
        [_, second] => {
            let message = "a step takes one event: for another event write another step, for all events of a fan-out \
                           take `Joined<Event>`";
            return Err(Error::new_spanned(second, message));
        }
        [_, _, third, ..] => {
            let message = "a step takes `&self`, the context if it needs it, and one event: remove this parameter";
            return Err(Error::new_spanned(third, message));
        }
    };
    if let Some(token) = context.as_ref().and_then(|context| context.mutability) {
        return Err(Error::new(token.span, "take the context as `&Context<...>`: its methods need no `mut`"));
    }
    match event {
        Type::Reference(reference) => {
            let message = format!("take the event by value: `{}`", text(&reference.elem));
            Err(Error::new_spanned(reference, message))
        }
        event if has_impl_trait(event) => {
            Err(Error::new_spanned(event, "a step cannot be generic: name the event's type"))
        }
        event => Ok((context, event.clone())),
    }
}

fn returned(signature: &Signature) -> Result<Type> {
    let ReturnType::Type(_, ty) = &signature.output else {
        let message = "a step returns `Outcome<...>`: write `-> Outcome<Event>`, or `-> Outcome<()>` to emit nothing";
        return Err(Error::new(signature.paren_token.span.close(), message));
    };
    let Some(returned) = first_argument(ty) else {
        let message = format!("a step returns `Outcome<...>`, because it can fail: write `-> Outcome<{}>`", text(ty));
        return Err(Error::new_spanned(ty, message));
    };
    if has_impl_trait(returned) {
        let message = "name the type that the step returns: an event, or an enum with `#[derive(Emit)]`";
        return Err(Error::new_spanned(returned, message));
    }
    Ok(returned.clone())
}

/// The `T` of `Outcome<T>` or `Result<T, Error>`, however they are imported.
pub(crate) fn first_argument(ty: &Type) -> Option<&Type> {
    let Type::Path(path) = ty else { return None };
    let last = path.path.segments.last()?;
    let PathArguments::AngleBracketed(arguments) = &last.arguments else { return None };
    if ["Option", "Vec", "Joined"].iter().any(|other| last.ident == other) {
        return None;
    }
    arguments.args.iter().find_map(|argument| match argument {
        GenericArgument::Type(ty) => Some(ty),
        _ => None,
    })
}

pub(crate) fn is_context(ty: &Type) -> bool {
    matches!(ty, Type::Path(path) if path.path.segments.last().is_some_and(|last| last.ident == "Context"))
}

pub(crate) fn has_impl_trait(ty: &Type) -> bool {
    struct Search(bool);
    impl Visit<'_> for Search {
        fn visit_type_impl_trait(&mut self, ty: &TypeImplTrait) {
            self.0 = true;
            visit::visit_type_impl_trait(self, ty);
        }
    }
    let mut search = Search(false);
    search.visit_type(ty);
    search.0
}

/// A type as it is written.
pub(crate) fn text(ty: &Type) -> String {
    let written = ty.span().source_text();
    let tokens = || ty.to_token_stream().to_string().replace(" < ", "<").replace(" >", ">").replace(" ,", ",");
    written.filter(|text| !text.contains('\n')).unwrap_or_else(tokens)
}

#[cfg(test)]
mod tests {
    use syn::parse_quote;

    use super::*;

    fn mistakes(signature: &Signature) -> Vec<String> {
        read(signature).err().into_iter().flatten().map(|e| e.to_string()).collect()
    }

    #[test]
    fn the_types_are_found() {
        let plain = read(&parse_quote!(async fn a(&self, ev: Asked) -> Outcome<()>)).unwrap();
        assert!(plain.context.is_none());
        assert_eq!((text(&plain.event), text(&plain.returned)), ("Asked".into(), "()".into()));
        let full = read(&parse_quote! {
            async fn a(&self, _: &memory::Context<M>, Joined(all): Joined<Page>) -> std::result::Result<Vec<Page>, Error>
        });
        let full = full.unwrap();
        assert!(full.context.is_some());
        assert_eq!((text(&full.event), text(&full.returned)), ("Joined<Page>".into(), "Vec<Page>".into()));
    }

    #[test]
    fn each_mistake_says_what_to_do() {
        let cases: Vec<(Signature, &str)> = vec![
            (parse_quote!(fn a(&self, ev: A) -> Outcome<B>), "write `async fn`"),
            (parse_quote!(async unsafe fn a(&self, ev: A) -> Outcome<B>), "remove `unsafe`"),
            (parse_quote!(async fn a(ev: A) -> Outcome<B>), "takes `&self` first"),
            (parse_quote!(async fn a(&mut self, ev: A) -> Outcome<B>), "behind a `Mutex`"),
            (parse_quote!(async fn a(self, ev: A) -> Outcome<B>), "share the workflow"),
            (parse_quote!(async fn a(self: Arc<Self>, ev: A) -> Outcome<B>), "share the workflow"),
            (parse_quote!(async fn a<T>(&self, ev: A) -> Outcome<B>), "cannot be generic"),
            (parse_quote!(async fn a(&self, ev: A) -> Outcome<B> where B: C), "cannot be generic"),
            (parse_quote!(async fn a(&self, ev: impl Event) -> Outcome<B>), "name the event's type"),
            (parse_quote!(async fn a(&self) -> Outcome<B>), "as the last parameter"),
            (parse_quote!(async fn a(&self, ctx: &Context<M>) -> Outcome<B>), "after the context"),
            (parse_quote!(async fn a(&self, ev: &A) -> Outcome<B>), "by value: `A`"),
            (parse_quote!(async fn a(&self, ctx: &Context, ev: &Joined<A>) -> Outcome<B>), "by value: `Joined<A>`"),
            (parse_quote!(async fn a(&self, ctx: &mut Context, ev: A) -> Outcome<B>), "need no `mut`"),
            (parse_quote!(async fn a(&self, ctx: Context<M>, ev: A) -> Outcome<B>), "by reference: `&Context<M>`"),
            (parse_quote!(async fn a(&self, ev: A, ctx: &Context) -> Outcome<B>), "swap the two"),
            (parse_quote!(async fn a(&self, ev: A, other: C) -> Outcome<B>), "takes one event"),
            (parse_quote!(async fn a(&self, ctx: &Context, ev: A, other: C) -> Outcome<B>), "remove this parameter"),
            (parse_quote!(async fn a(&self, ev: A)), "or `-> Outcome<()>`"),
            (parse_quote!(async fn a(&self, ev: A) -> B), "write `-> Outcome<B>`"),
            (parse_quote!(async fn a(&self, ev: A) -> Vec<B>), "write `-> Outcome<Vec<B>>`"),
            (parse_quote!(async fn a(&self, ev: A) -> ()), "write `-> Outcome<()>`"),
            (parse_quote!(async fn a(&self, ev: A) -> Outcome<impl Emit>), "name the type that the step returns"),
        ];
        for (signature, says) in cases {
            let mistakes = mistakes(&signature);
            let written = signature.to_token_stream();
            assert!(mistakes.len() == 1 && mistakes[0].contains(says), "{written}: {mistakes:?}");
        }
    }

    #[test]
    fn all_mistakes_of_a_step_are_reported_at_once() {
        assert_eq!(mistakes(&parse_quote!(fn a())).len(), 4);
    }
}
