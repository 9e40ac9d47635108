//! Tasks that are spawned with the context in them. The compiler would call it "borrowed data" that "escapes".

use proc_macro2::{Ident, TokenStream, TokenTree};
use quote::ToTokens;
use syn::visit::{self, Visit};
use syn::{Block, Error, Expr, ExprCall, FnArg, Pat, PatIdent, Path, Signature};

use crate::options;
use crate::signature::is_context;

const SPAWNERS: [&str; 4] = ["tokio", "task", "thread", "std"];

/// Finds such calls in a body.
pub(crate) fn check(signature: &Signature, body: &Block) -> Option<Error> {
    let context = context(signature)?;
    let mut calls = Calls { context, rebound: false, mistakes: None };
    calls.visit_block(body);
    // Another variable of that name may be anything.
    if calls.rebound { None } else { calls.mistakes }
}

/// The name that the function gives its context.
fn context(signature: &Signature) -> Option<&Ident> {
    signature.inputs.iter().find_map(|input| {
        let FnArg::Typed(typed) = input else { return None };
        let (syn::Type::Reference(reference), Pat::Ident(name)) = (&*typed.ty, &*typed.pat) else { return None };
        is_context(&reference.elem).then_some(&name.ident)
    })
}

struct Calls<'a> {
    context: &'a Ident,
    rebound: bool,
    mistakes: Option<Error>,
}

impl<'a> Visit<'a> for Calls<'_> {
    fn visit_pat_ident(&mut self, pattern: &'a PatIdent) {
        self.rebound |= pattern.ident == *self.context;
        visit::visit_pat_ident(self, pattern);
    }

    fn visit_expr_call(&mut self, call: &'a ExprCall) {
        if let Expr::Path(function) = &*call.func
            && spawns(&function.path, call)
            && mentions(call.args.to_token_stream(), self.context)
        {
            let context = self.context;
            let message = format!(
                "a spawned task cannot use the context `{context}`, because it may outlive the body: await several things at once \
                 with `{context}.join((..))`, hand work to other workers with `{context}.task::<..>(..)`, or take what the task \
                 needs out of the context first"
            );
            options::collect(&mut self.mistakes, Error::new_spanned(&call.func, message));
        }
        visit::visit_expr_call(self, call);
    }
}

/// `tokio::spawn(..)`, `std::thread::spawn(..)`, or `spawn(async ..)`.
fn spawns(path: &Path, call: &ExprCall) -> bool {
    let Some(last) = path.segments.last() else { return false };
    if !["spawn", "spawn_local", "spawn_blocking"].iter().any(|name| last.ident == name) {
        return false;
    }
    if path.segments.len() == 1 {
        return matches!(call.args.first(), Some(Expr::Async(_) | Expr::Closure(_)));
    }
    path.segments.first().is_some_and(|first| SPAWNERS.iter().any(|known| first.ident == known))
}

fn mentions(tokens: TokenStream, name: &Ident) -> bool {
    tokens.into_iter().any(|token| match token {
        TokenTree::Ident(ident) => ident == *name,
        TokenTree::Group(group) => mentions(group.stream(), name),
        TokenTree::Punct(_) | TokenTree::Literal(_) => false,
    })
}

#[cfg(test)]
mod tests {
    use syn::{ItemFn, parse_quote};

    use super::*;

    fn mistakes(function: &ItemFn) -> usize {
        check(&function.sig, &function.block).map_or(0, |mistakes| mistakes.into_iter().count())
    }

    #[test]
    fn tasks_with_the_context_are_found() {
        assert_eq!(
            mistakes(&parse_quote!(
                async fn a(c: &Context<Memory>, i: u8) -> Outcome<()> {
                    tokio::spawn(async move { c.step("x", || work(i)).await });
                    let all = [tokio::task::spawn_blocking(move || f(c)), spawn(async { vec![g(c)] })];
                    std::thread::spawn(|| c.run_id());
                    Ok(())
                }
            )),
            4
        );
    }

    #[test]
    fn other_tasks_and_functions_are_left_alone() {
        for fine in [
            parse_quote!(
                async fn a(ctx: &Context, i: u8) -> Outcome<()> {
                    tokio::spawn(async move { work(i).await });
                    ctx.step("x", || async { tokio::spawn(work(i)).await }).await?;
                    spawn(ctx, i).await?;
                    fleet::spawn(ctx).await
                }
            ),
            parse_quote!(
                async fn a(ctx: &Context, i: u8) -> Outcome<()> {
                    let ctx = ctx.run_id().to_owned();
                    tokio::spawn(async move { work(ctx).await });
                    Ok(())
                }
            ),
            parse_quote!(
                async fn a(_: &Context, i: u8) -> Outcome<()> {
                    tokio::spawn(work(ctx));
                    Ok(())
                }
            ),
        ] {
            assert_eq!(mistakes(&fine), 0);
        }
    }
}
