use quote::quote;

use super::*;

fn output(options: &str, item: &str) -> String {
    let output = expand(options.parse().unwrap(), &item.parse().unwrap()).to_string();
    syn::parse_str::<syn::File>(&output).unwrap();
    normal(&output)
}

/// Without spaces, which token streams put between all tokens.
fn normal(text: &str) -> String {
    text.replace([' ', '\n'], "")
}

const STEP: &str = "#[step] async fn go(&self, ev: A) -> Outcome<B> { todo!() }";

#[track_caller]
fn says(options: &str, items: &str, expected: &str) {
    let output = output(options, &format!("impl W {{ {items} }}"));
    assert!(output.contains("compile_error") && output.contains(&normal(expected)), "{expected} is not in {output}");
    assert!(output.contains("WorkflowforW"), "uses of W would be reported too: {output}");
}

#[test]
fn the_definition_has_what_the_options_say() {
    let step = "#[step(retries = 5, backoff = \"500ms\", name = \"walk\", timeout = \"1m\", sends = [C, some::D])] \
                async fn go(&self, ctx: &Context<M>, ev: A) -> Outcome<Vec<B>> { body() }";
    let options = "start = A, stop = some::B, name = \"letters\", version = 3, retention = \"1d\", timeout = \"10m\", \
                   external = [E]";
    let output = output(options, &format!("impl W {{ {step} fn helper(&self) {{}} }}"));
    for part in [
        "name: \"letters\"",
        "version: 3u32",
        "start: ::stepfleet::__private::name_of::<A>()",
        "stop: ::stepfleet::__private::name_of::<some::B>()",
        "external: ::std::vec![::stepfleet::__private::name_of::<E>()]",
        "sends: ::std::vec![::stepfleet::__private::name_of::<C>(), ::stepfleet::__private::name_of::<some::D>()]",
        "retention: ::stepfleet::__private::Duration::new(86400u64, 0u32)",
        "timeout: ::core::option::Option::Some(::stepfleet::__private::Duration::new(600u64, 0u32))",
        "name: \"walk\"",
        "accepts: <A as ::stepfleet::__private::Input>::ACCEPTS",
        "emits: ::stepfleet::__private::Shape::of::<Vec<B>>()",
        "context: true",
        "RetryPolicy::exponential(::stepfleet::__private::Duration::new(0u64, 500000000u32)).attempts(6u32)",
        "catches: ::core::option::Option::None",
        "timeout: ::core::option::Option::Some(::stepfleet::__private::Duration::new(60u64, 0u32))",
        "let context = attempt.context();",
        "Self::go(&workflow, &context, event).await?",
        "#[step(__in_workflow)] #[allow(clippy::unused_async)] async fn go(&self, ctx: &Context<M>, ev: A) -> Outcome<Vec<B>> { body() }",
        "fn helper(&self) {}",
    ] {
        assert!(output.contains(&normal(part)), "{part} is not in {output}");
    }
    assert!(!output.contains("compile_error"), "{output}");
}

#[test]
fn the_defaults_are_the_type_and_version_1_and_a_week() {
    let output = output("start = A, stop = B", &format!("impl crate::SearchPages {{ {STEP} }}"));
    for part in [
        "name: \"search_pages\"",
        "version: 1u32",
        "Duration::new(604_800, 0)",
        "name: \"go\"",
        "context: false",
        "timeout: ::core::option::Option::None",
        "retry: ::core::option::Option::None",
        "Self::go(&workflow, event).await?",
    ] {
        assert!(output.contains(&normal(part)), "{part} is not in {output}");
    }
}

#[test]
fn methods_keep_all_but_the_steps_options() {
    let item = "impl W { /// Doc.\n #[step(retries = 1)] #[instrument] async fn go(&self, ev: A) -> Outcome<B> { x } }";
    let output = output("start = A, stop = B", item);
    assert!(
        output.contains(&normal("#[step(__in_workflow)] #[instrument] #[allow(clippy::unused_async)] async fn go")),
        "{output}"
    );
    let left = quote!(
        async fn go() {}
    );
    assert_eq!(step::standalone(&quote!(__in_workflow), &left).to_string(), left.to_string());
    assert!(step::standalone(&quote!(retries = 1), &left).to_string().contains("put `#[workflow]` on its block"));
}

#[test]
fn a_condition_of_a_method_is_one_of_its_step() {
    let both = "#[cfg(a)] #[step] async fn go(&self, ev: A) -> Outcome<B> { x } \
                #[cfg(not(a))] #[stepfleet::step] async fn go(&self, ev: A) -> Outcome<B> { y }";
    let output = output("start = A, stop = B", &format!("impl W {{ {both} }}"));
    for part in ["#[cfg(a)] steps.push", "#[cfg(not(a))] steps.push"] {
        assert!(output.contains(&normal(part)), "{output}");
    }
    assert!(!output.contains("compile_error"), "{output}");
}

#[test]
fn a_generic_workflow_keeps_its_parameters() {
    let output = output("start = A, stop = B", &format!("impl<S: Store> Pages<S> where S: Clone {{ {STEP} }}"));
    let head = "impl<S: Store> ::stepfleet::Workflow for Pages<S> where S: Clone";
    assert!(output.contains(&normal(head)), "{output}");
}

#[test]
fn mistakes_say_what_to_do() {
    let both = "start = A, stop = B";
    says("stop = B", STEP, "`start` is missing");
    says("start = A", STEP, "`stop` is missing");
    says("", STEP, "`stop` is missing");
    says("start = \"A\", stop = B", STEP, "`start = Asked`");
    says("start = A, stop = B, start = C", STEP, "given twice");
    says("start = A, stop = B, limit = \"1s\"", STEP, "unknown option `limit`: a workflow has `start`, `stop`");
    says("start = A, stop = B, retention = \"7\"", STEP, "`retention = \\\"7d\\\"`");
    says(both, "fn helper() {}", "has no steps");
    says(both, "#[step] const A: u8 = 1; fn helper() {}", "goes on methods");
    says(both, &format!("{STEP} #[step(name = \"go\")] async fn b(&self, ev: A) -> Outcome<B> {{ x }}"), "named `go`");
    says(both, "#[step] #[step] async fn go(&self, ev: A) -> Outcome<B> { x }", "into one");
    says(both, "#[step = 5] async fn go(&self, ev: A) -> Outcome<B> { x }", "into parentheses");
    says(both, "#[step(retri = 5)] fn go(&self, ev: A) -> Outcome<B> { x }", "unknown option `retri`");
    says(both, "#[step(retri = 5)] fn go(&self, ev: A) -> Outcome<B> { x }", "write `async fn`");
    says(both, "#[step(retry = p(), backoff = \"1s\")] fn go(&self, ev: A) -> Outcome<B> { x }", "the whole policy");
    says("start = A, stop = B, retry = 5", STEP, "is a retry policy");
    says(both, "#[step] async fn größe(&self, ev: A) -> Outcome<B> { x }", "or set `#[step(name");
    for (item, expected) in [
        ("impl Clone for W {}", "not on that of a trait"),
        ("struct W;", "goes on the `impl` block"),
        ("fn w() {}", "goes on the `impl` block"),
    ] {
        let output = output(both, item);
        assert!(output.contains(&normal(expected)) && output.contains(&normal(item)), "{output}");
    }
}

#[test]
fn names_become_snake_case() {
    for (name, snake) in [
        ("Letters", "letters"),
        ("SearchPages", "search_pages"),
        ("HTTPGet2Pages", "http_get2_pages"),
        ("RAG", "rag"),
        ("Already_Snake", "already_snake"),
        ("X", "x"),
    ] {
        assert_eq!(snake_case(name), snake);
    }
}
