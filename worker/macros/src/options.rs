//! Reads `key = value` options.

use std::fmt::Display;
use std::str::FromStr;
use std::time::Duration;

use proc_macro2::{Span, TokenStream};
use quote::{quote, quote_spanned};
use syn::ext::IdentExt;
use syn::parse::{Parse, ParseStream};
use syn::spanned::Spanned;
use syn::{Error, Expr, Ident, Lit, LitStr, Result, Token, Type, token};

/// As `stepfleet_shared::names` has it: the longest name, in bytes.
const MAX_NAME: usize = 128;

/// Longer ones are mistakes, and would not fit into Redis' milliseconds.
const MAX_DURATION: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

/// Reads options separated by commas; `read` gets each key once and reads its value.
pub(crate) fn read_all(
    input: ParseStream,
    owner: &str,
    known: &[&str],
    mut read: impl FnMut(&str, ParseStream) -> Result<()>,
) -> Result<()> {
    let mut seen = Vec::new();
    while !input.is_empty() {
        let key = input.call(Ident::parse_any)?;
        let name = key.to_string();
        if !known.contains(&name.as_str()) {
            let known = known.join("`, `");
            return Err(Error::new(key.span(), format!("unknown option `{name}`: {owner} has `{known}`")));
        }
        if seen.contains(&name) {
            return Err(Error::new(key.span(), format!("`{name}` is given twice: remove one of them")));
        }
        if !input.peek(Token![=]) {
            return Err(Error::new(key.span(), format!("`{name}` has no value: write `{name} = ...`")));
        }
        input.parse::<Token![=]>()?;
        read(&name, input)?;
        seen.push(name);
        if !input.is_empty() {
            input.parse::<Token![,]>()?;
        }
    }
    Ok(())
}

/// A literal; anything else is a mistake that `expected` explains.
fn literal(input: ParseStream, expected: &str) -> Result<Lit> {
    input.parse().map_err(|_| Error::new(input.span(), expected))
}

fn text(input: ParseStream, expected: &str) -> Result<LitStr> {
    match literal(input, expected)? {
        Lit::Str(text) => Ok(text),
        other => Err(Error::new(other.span(), expected)),
    }
}

/// A name of a workflow, step or event.
pub(crate) fn name(input: ParseStream) -> Result<LitStr> {
    let name = text(input, "a name is a string, such as `name = \"letters\"`")?;
    check_name(&name.value(), name.span())?;
    Ok(name)
}

/// The rules of `stepfleet_shared::names::check_name`.
pub(crate) fn check_name(name: &str, span: Span) -> Result<()> {
    let fine = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    if name.is_empty() {
        return Err(Error::new(span, "this name is empty: use 1 to 128 letters, digits, `_`, `-` and `.`"));
    }
    if name.len() > MAX_NAME {
        return Err(Error::new(span, format!("this name has {} bytes: at most {MAX_NAME} are allowed", name.len())));
    }
    match name.chars().find(|c| !fine(c)) {
        Some(c) => Err(Error::new(
            span,
            format!("the name {name:?} has {c:?} in it: use letters (without accents), digits, `_`, `-` and `.`"),
        )),
        None => Ok(()),
    }
}

/// The type of an event.
pub(crate) fn event(key: &str, input: ParseStream) -> Result<Type> {
    let span = input.span();
    input.parse().map_err(|_| Error::new(span, format!("`{key}` is the type of an event, such as `{key} = Asked`")))
}

/// A list of types of events, in brackets.
pub(crate) fn events(key: &str, input: ParseStream) -> Result<Vec<Type>> {
    let expected = format!("`{key}` is a list of types of events, such as `{key} = [Asked, Answered]`");
    let list = || {
        let inside;
        syn::bracketed!(inside in input);
        Ok(inside.parse_terminated(Type::parse, Token![,])?.into_iter().collect())
    };
    list().map_err(|e: Error| Error::new(e.span(), expected))
}

/// The name of an event, as an expression. A type that is not an event is reported at its place.
pub(crate) fn event_name(event: &Type) -> TokenStream {
    quote_spanned!(event.span()=> ::stepfleet::__private::name_of::<#event>())
}

/// The name of an event and its schema, as an expression.
pub(crate) fn event_schema(event: &Type) -> TokenStream {
    let name = event_name(event);
    // Its span is that of no code of the user's: a type that is no event is reported once, for its name.
    quote!((::std::string::String::from(#name), ::stepfleet::__private::schema_of::<#event>()))
}

/// A duration with units, as an expression.
pub(crate) fn duration(key: &str, input: ParseStream) -> Result<TokenStream> {
    let example = if key == "retention" { "7d" } else { "30s" };
    let expected = format!("`{key}` is a duration with units, such as `{key} = \"{example}\"`");
    let text = text(input, &expected)?;
    let explain = |why: &dyn Display| Error::new(text.span(), format!("{why}: {expected}"));
    let duration = humantime::parse_duration(&text.value()).map_err(|e| explain(&e))?;
    if duration > MAX_DURATION {
        return Err(explain(&"more than 100 years"));
    }
    if duration.is_zero() && key == "timeout" {
        return Err(explain(&"nothing would ever end in time"));
    }
    let (seconds, nanos) = (duration.as_secs(), duration.subsec_nanos());
    Ok(quote!(::stepfleet::__private::Duration::new(#seconds, #nanos)))
}

/// A durability, as an expression.
pub(crate) fn durability(input: ParseStream) -> Result<TokenStream> {
    let expected = "`durability` is \"none\", \"fsync\" or \"replicas:1\" (up to 16), such as `durability = \"fsync\"`";
    let text = text(input, expected)?;
    let value = text.value();
    match value.as_str() {
        "none" => Ok(durability_or_none(None)),
        "fsync" => Ok(quote!(::stepfleet::__private::Durability::Fsync)),
        other => {
            let count = other.strip_prefix("replicas:").and_then(|count| count.parse::<u8>().ok());
            let count =
                count.filter(|count| (1..=16).contains(count)).ok_or_else(|| Error::new(text.span(), expected))?;
            Ok(quote!(::stepfleet::__private::Durability::Replicas(#count)))
        }
    }
}

/// The expression of an option that may be left out.
pub(crate) fn durability_or_none(given: Option<&TokenStream>) -> TokenStream {
    given.cloned().unwrap_or_else(|| quote!(::stepfleet::__private::Durability::None))
}

/// A whole number from 0.
pub(crate) fn whole(key: &str, input: ParseStream) -> Result<u32> {
    let expected = format!("`{key}` is a whole number from 0 to {}, such as `{key} = 5`", u32::MAX);
    match literal(input, &expected)? {
        Lit::Int(number) => parsed(number.base10_digits(), number.suffix(), number.span(), &expected),
        other => Err(Error::new(other.span(), expected)),
    }
}

/// A whole number from 1.
pub(crate) fn at_least_one(key: &str, input: ParseStream) -> Result<TokenStream> {
    let span = input.span();
    match whole(key, input)? {
        0 => Err(Error::new(span, format!("`{key}` is at least 1: with 0 the step would never begin"))),
        number => Ok(quote!(#number)),
    }
}

/// A factor of at least 1.
pub(crate) fn factor(key: &str, input: ParseStream) -> Result<f64> {
    let expected = format!("`{key}` is a number of at least 1, such as `{key} = 2.0`");
    let (digits, suffix, span) = match literal(input, &expected)? {
        Lit::Float(number) => (number.base10_digits().to_owned(), number.suffix().to_owned(), number.span()),
        Lit::Int(number) => (number.base10_digits().to_owned(), number.suffix().to_owned(), number.span()),
        other => return Err(Error::new(other.span(), expected)),
    };
    let number: f64 = parsed(&digits, &suffix, span, &expected)?;
    if number.is_finite() && number >= 1.0 { Ok(number) } else { Err(Error::new(span, expected)) }
}

fn parsed<T: FromStr>(digits: &str, suffix: &str, span: Span, expected: &str) -> Result<T> {
    match digits.parse() {
        Ok(number) if suffix.is_empty() => Ok(number),
        _ => Err(Error::new(span, expected)),
    }
}

/// A retry policy, as an expression.
pub(crate) fn policy(input: ParseStream) -> Result<Expr> {
    let expected = "`retry` is a retry policy, such as `retry = RetryPolicy::fixed(Duration::from_secs(1)).attempts(5)`; \
                    for a number of retries write `retries = 5`";
    let span = input.span();
    match input.parse().map_err(|_| Error::new(span, expected))? {
        Expr::Lit(literal) => Err(Error::new_spanned(literal, expected)),
        policy => Ok(policy),
    }
}

/// An expression that is not a policy is reported at its place.
pub(crate) fn some_policy(policy: &Expr) -> TokenStream {
    let ty = quote!(::stepfleet::__private::RetryPolicy);
    quote_spanned! {Span::mixed_site().located_at(policy.span())=>
        {
            let policy: #ty = #policy;
            ::core::option::Option::Some(policy)
        }
    }
}

/// Names of steps, or "all" for none in particular.
pub(crate) fn steps(input: ParseStream) -> Result<Vec<LitStr>> {
    let expected = "`catches` is \"all\" or a list of steps, such as `catches = [\"fetch\", \"parse\"]`";
    let span = input.span();
    if !input.peek(token::Bracket) {
        let all = text(input, expected)?;
        return if all.value() == "all" { Ok(Vec::new()) } else { Err(Error::new(all.span(), expected)) };
    }
    let inside;
    syn::bracketed!(inside in input);
    let mut steps = Vec::new();
    while !inside.is_empty() {
        let step = text(&inside, expected)?;
        check_name(&step.value(), step.span())?;
        steps.push(step);
        if !inside.is_empty() {
            inside.parse::<Token![,]>()?;
        }
    }
    if steps.is_empty() {
        return Err(Error::new(span, expected));
    }
    Ok(steps)
}

/// A whole number from 1.
pub(crate) fn recoveries(input: ParseStream) -> Result<u32> {
    let span = input.span();
    match whole("recoveries", input)? {
        0 => Err(Error::new(span, "a step that recovers 0 times catches nothing: remove the step, or write 1 or more")),
        most => Ok(most),
    }
}

/// `Some(value)`, or `None`.
pub(crate) fn optional(value: Option<&TokenStream>) -> TokenStream {
    let none = || quote!(::core::option::Option::None);
    value.map_or_else(none, |value| quote!(::core::option::Option::Some(#value)))
}

/// Adds a mistake to those already found.
pub(crate) fn collect(mistakes: &mut Option<Error>, mistake: Error) {
    match mistakes {
        Some(first) => first.combine(mistake),
        None => *mistakes = Some(mistake),
    }
}

#[cfg(test)]
mod tests {
    use syn::parse::Parser;

    use super::*;

    fn mistake(options: &str) -> String {
        let read = |key: &str, input: ParseStream| match key {
            "retries" => whole(key, input).map(drop),
            "concurrency" => at_least_one(key, input).map(drop),
            "factor" => factor(key, input).map(drop),
            "name" => name(input).map(drop),
            "sends" => events(key, input).map(drop),
            "retry" => policy(input).map(drop),
            "catches" => steps(input).map(drop),
            "recoveries" => recoveries(input).map(drop),
            _ => duration(key, input).map(drop),
        };
        let known = [
            "name",
            "retries",
            "factor",
            "timeout",
            "backoff",
            "sends",
            "concurrency",
            "retry",
            "catches",
            "recoveries",
        ];
        let parse = |input: ParseStream| read_all(input, "a step", &known, read);
        parse.parse_str(options).err().map(|e| e.to_string()).unwrap_or_default()
    }

    #[test]
    fn sound_options_are_taken() {
        for options in [
            "",
            "retries = 5",
            "retries = 0, factor = 1, timeout = \"500ms\",",
            "backoff = \"0s\", factor = 1.5, name = \"a.b-c_9\"",
            "timeout = \"1h 30m\", backoff = \"7d\"",
            "sends = [Asked, events::Word,], name = \"a\"",
            "sends = []",
            "retry = RetryPolicy::fixed(SECOND).attempts(5), timeout = \"1s\"",
            "catches = \"all\", recoveries = 3",
            "catches = [\"fetch\", \"parse\",]",
        ] {
            assert_eq!(mistake(options), "", "{options}");
        }
    }

    #[test]
    fn mistakes_say_what_to_write() {
        for (options, says) in [
            ("retri = 5", "unknown option `retri`: a step has `name`, `retries`"),
            ("retry = 5", "write `retries = 5`"),
            ("retry =", "is a retry policy"),
            ("catches = \"fetch\"", "`catches = [\"fetch\", \"parse\"]`"),
            ("catches = fetch", "`catches = [\"fetch\", \"parse\"]`"),
            ("catches = [fetch]", "`catches = [\"fetch\", \"parse\"]`"),
            ("catches = []", "`catches = [\"fetch\", \"parse\"]`"),
            ("catches = [\"a b\"]", "has ' ' in it"),
            ("recoveries = 0", "catches nothing"),
            ("retries = 5, retries = 6", "given twice"),
            ("retries", "write `retries = ...`"),
            ("retries = -1", "whole number from 0"),
            ("retries = 4294967296", "whole number from 0"),
            ("retries = \"5\"", "`retries = 5`"),
            ("retries = MANY", "`retries = 5`"),
            ("retries = 5u64", "`retries = 5`"),
            ("concurrency = 0", "at least 1"),
            ("factor = 0.5", "at least 1"),
            ("factor = 1e999", "at least 1"),
            ("timeout = 30", "`timeout = \"30s\"`"),
            ("timeout = \"30\"", "`timeout = \"30s\"`"),
            ("timeout = \"0s\"", "in time"),
            ("timeout = \"\"", "`timeout = \"30s\"`"),
            ("backoff = \"200 years\"", "100 years"),
            ("name = \"\"", "empty"),
            ("name = \"a b\"", "has ' ' in it"),
            ("name = \"é\"", "letters (without accents)"),
            ("name = letters", "is a string"),
            ("sends = Asked", "`sends = [Asked, Answered]`"),
            ("sends = [\"Asked\"]", "`sends = [Asked, Answered]`"),
            ("retries = 5 timeout = \"1s\"", "expected `,`"),
        ] {
            let mistake = mistake(options);
            assert!(mistake.contains(says), "{options}: {mistake:?}");
        }
        assert!(mistake(&format!("name = \"{}\"", "x".repeat(129))).contains("129 bytes"));
    }

    #[test]
    fn durations_keep_their_nanoseconds() {
        let parse = |input: ParseStream| duration("timeout", input);
        let expression = parse.parse_str("\"1s 500us\"").unwrap().to_string();
        assert!(expression.contains("new (1u64 , 500000u32)"), "{expression}");
    }
}
