//! `#[step]`: one method, and its entry in the workflow's definition.

use proc_macro2::{Span, TokenStream};
use quote::{ToTokens, quote, quote_spanned};
use syn::ext::IdentExt;
use syn::parse::ParseStream;
use syn::spanned::Spanned;
use syn::{Attribute, Error, Expr, Ident, ImplItemFn, LitStr, Meta, Result, Type};

use crate::options;
use crate::signature::{self, Parts};

const KNOWN: [&str; 11] = [
    "name",
    "sends",
    "concurrency",
    "retries",
    "backoff",
    "factor",
    "max_backoff",
    "retry",
    "timeout",
    "catches",
    "recoveries",
];

/// What `#[workflow]` leaves in place of the options, so that the name `step` still resolves as an attribute.
const SEEN: &str = "__in_workflow";

/// The local variable that a step adds itself to.
pub(crate) const STEPS: &str = "steps";

pub(crate) struct Step {
    pub(crate) name: LitStr,
    /// Whether it is there depends on these.
    pub(crate) conditions: Vec<Attribute>,
    function: Ident,
    parts: Parts,
    options: Options,
}

#[derive(Default)]
struct Options {
    name: Option<LitStr>,
    /// What its body sends, beside what it returns.
    sends: Vec<Type>,
    timeout: Option<TokenStream>,
    /// The whole retry policy.
    retry: Option<Expr>,
    /// Parts of it: the first delay, and calls that change the others.
    backoff: Option<TokenStream>,
    retry_calls: Vec<TokenStream>,
    /// Which failures it catches, and how often.
    catches: Option<Vec<LitStr>>,
    recoveries: Option<u32>,
    concurrency: Option<TokenStream>,
}

/// Is it `#[step]` or `#[stepfleet::step]`?
pub(crate) fn is_step(attribute: &Attribute) -> bool {
    let segments = &attribute.path().segments;
    let ours = |first: &Ident| segments.len() == 1 || first == "stepfleet";
    segments.last().is_some_and(|last| last.ident == "step") && ours(&segments[0].ident)
}

/// Takes the options of `#[step]` off a method of a workflow. None for other methods.
pub(crate) fn take(method: &mut ImplItemFn) -> Option<Result<Step>> {
    let mut attributes = method.attrs.iter_mut().filter(|a| is_step(a));
    let first = attributes.next()?;
    let attribute = first.clone();
    let (path, seen) = (first.path().clone(), Ident::new(SEEN, Span::call_site()));
    first.meta = syn::parse_quote_spanned!(attribute.span()=> #path(#seen));
    let more = attributes.next().cloned();
    // It is async because a step must be.
    method.attrs.push(syn::parse_quote!(#[allow(clippy::unused_async)]));
    if let Some(more) = more {
        let mut kept = false;
        method.attrs.retain(|a| !is_step(a) || !std::mem::replace(&mut kept, true));
        return Some(Err(Error::new_spanned(more, "`#[step]` is given twice: put all options into one")));
    }
    Some(Step::new(method, &attribute))
}

impl Step {
    fn new(method: &ImplItemFn, attribute: &Attribute) -> Result<Self> {
        let options = Options::new(attribute);
        let parts = signature::read(&method.sig);
        let (options, parts) = match (options, parts) {
            (Ok(options), Ok(parts)) => (options, parts),
            (Err(mut first), Err(second)) => {
                first.combine(second);
                return Err(first);
            }
            (Err(mistake), Ok(_)) | (Ok(_), Err(mistake)) => return Err(mistake),
        };
        let function = method.sig.ident.clone();
        let own = || {
            let own = function.unraw().to_string();
            options::check_name(&own, function.span())
                .map_err(|e| Error::new(e.span(), format!("{e}; or set `#[step(name = \"...\")]`")))?;
            Ok::<_, Error>(LitStr::new(&own, function.span()))
        };
        let name = options.name.clone().map_or_else(own, Ok)?;
        let conditions = method.attrs.iter().filter(|a| a.path().is_ident("cfg")).cloned().collect();
        Ok(Self { name, conditions, function, parts, options })
    }
}

impl Options {
    fn new(attribute: &Attribute) -> Result<Self> {
        let mut found = Self::default();
        match &attribute.meta {
            Meta::Path(_) => {}
            Meta::List(_) => attribute.parse_args_with(|input: ParseStream| found.read(input))?,
            Meta::NameValue(pair) => {
                let message = "options go into parentheses, such as `#[step(retries = 5)]`";
                return Err(Error::new(pair.eq_token.span, message));
            }
        }
        Ok(found)
    }

    fn read(&mut self, input: ParseStream) -> Result<()> {
        options::read_all(input, "a step", &KNOWN, |key, value| {
            match key {
                "name" => self.name = Some(options::name(value)?),
                "concurrency" => self.concurrency = Some(options::at_least_one(key, value)?),
                "sends" => self.sends = options::events(key, value)?,
                "timeout" => self.timeout = Some(options::duration(key, value)?),
                "retry" => self.retry = Some(options::policy(value)?),
                "retries" => {
                    let attempts = options::whole(key, value)?.saturating_add(1);
                    self.retry_calls.push(quote!(.attempts(#attempts)));
                }
                "backoff" => self.backoff = Some(options::duration(key, value)?),
                "factor" => {
                    let factor = options::factor(key, value)?;
                    self.retry_calls.push(quote!(.factor(#factor)));
                }
                "max_backoff" => {
                    let longest = options::duration(key, value)?;
                    self.retry_calls.push(quote!(.max_delay(#longest)));
                }
                "catches" => self.catches = Some(options::steps(value)?),
                _ => self.recoveries = Some(options::recoveries(value)?),
            }
            Ok(())
        })?;
        match &self.retry {
            Some(policy) if self.backoff.is_some() || !self.retry_calls.is_empty() => Err(Error::new_spanned(
                policy,
                "`retry` is the whole policy: remove `retries`, `backoff`, `factor` and `max_backoff`, and put them \
                 into the policy, such as `RetryPolicy::exponential(first).attempts(5)`",
            )),
            _ => Ok(()),
        }
    }

    /// None if the workflow's policy holds.
    fn retry(&self) -> TokenStream {
        if let Some(policy) = &self.retry {
            return options::some_policy(policy);
        }
        if self.backoff.is_none() && self.retry_calls.is_empty() {
            return options::optional(None);
        }
        let (second, calls) = (quote!(::stepfleet::__private::Duration::new(1, 0)), &self.retry_calls);
        let first = self.backoff.as_ref().unwrap_or(&second);
        let policy = quote!(::stepfleet::__private::RetryPolicy::exponential(#first) #(#calls)*);
        options::optional(Some(&policy))
    }

    /// A step that takes something other than a failure is reported at its event.
    fn catches(&self, event: &Type) -> TokenStream {
        if self.catches.is_none() && self.recoveries.is_none() {
            return options::optional(None);
        }
        let (steps, recoveries) = (self.catches.iter().flatten(), self.recoveries.unwrap_or(1));
        let catches = quote_spanned!(at(event)=> ::stepfleet::__private::Catches::of::<#event>);
        options::optional(Some(&quote!(#catches(::std::vec![#(#steps),*], #recoveries))))
    }
}

impl ToTokens for Step {
    /// A statement that adds the step to [`STEPS`]. Mistakes in its types are reported at their places.
    fn to_tokens(&self, tokens: &mut TokenStream) {
        let Self { name, conditions, parts: Parts { context, event, returned }, .. } = self;
        let (retry, timeout) = (self.options.retry(), options::optional(self.options.timeout.as_ref()));
        let (has_context, catches) = (context.is_some(), self.options.catches(event));
        let concurrency = options::optional(self.options.concurrency.as_ref());
        let accepts = quote_spanned!(at(event)=> <#event as ::stepfleet::__private::Input>::ACCEPTS);
        let emits = quote_spanned!(at(returned)=> ::stepfleet::__private::Shape::of::<#returned>());
        let sends = self.options.sends.iter().map(options::event_name);
        let run = self.run();
        let steps = Ident::new(STEPS, Span::mixed_site());
        tokens.extend(quote! {
            #(#conditions)*
            #steps.push(::stepfleet::__private::Step {
                name: #name,
                accepts: #accepts,
                emits: #emits,
                sends: ::std::vec![#(#sends),*],
                context: #has_context,
                retry: #retry,
                timeout: #timeout,
                catches: #catches,
                concurrency: #concurrency,
                saves_state: false,
                awaits_calls_alone: false,
                run: #run,
            });
        });
    }
}

impl Step {
    /// The closure that executes it. A future that is not `Send` is reported at the function's name.
    fn run(&self) -> TokenStream {
        let Self { function, parts: Parts { context, event, returned }, .. } = self;
        let call = Span::mixed_site().located_at(function.span());
        let read = quote_spanned!(at(event)=> <#event as ::stepfleet::__private::Input>::read(&attempt)?);
        let emission = quote_spanned!(at(returned)=> attempt.emission::<#returned>(returned));
        let context = context.as_ref().map(|context| {
            let span = Span::mixed_site().located_at(context.span());
            (quote_spanned!(span=> let context = attempt.context();), quote_spanned!(span=> &context,))
        });
        let (make_context, context) = context.unzip();
        quote_spanned! {call=>
            |workflow, attempt| ::stepfleet::__private::Box::pin(async move {
                let event = #read;
                #make_context
                let returned = Self::#function(&workflow, #context event).await?;
                #emission
            })
        }
    }
}

/// The span of a type, for names that users cannot see.
fn at(ty: &Type) -> Span {
    Span::mixed_site().located_at(ty.span())
}

/// `#[step]` as a separate attribute: `#[workflow]` has not seen it, unless it left its mark.
pub(crate) fn standalone(options: &TokenStream, item: &TokenStream) -> TokenStream {
    if options.to_string() == SEEN {
        return item.clone();
    }
    let message = "`#[step]` goes on methods of an `impl` block with `#[workflow(start = ..., stop = ...)]`: move this \
                   one there, or put `#[workflow]` on its block";
    let mistake = Error::new(Span::call_site(), message).to_compile_error();
    quote!(#mistake #item)
}

/// Reports `#[step]` on what is no method.
pub(crate) fn misplaced(attributes: &mut Vec<Attribute>) -> Option<Error> {
    let at = attributes.iter().position(is_step)?;
    let attribute = attributes.remove(at);
    Some(Error::new_spanned(attribute, "`#[step]` goes on methods: remove it here"))
}
