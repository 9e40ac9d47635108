use super::*;

fn fields(pairs: &[(&str, &str)]) -> Vec<(Vec<u8>, Vec<u8>)> {
    pairs.iter().map(|(k, v)| (k.as_bytes().to_vec(), v.as_bytes().to_vec())).collect()
}

#[test]
fn a_start_is_read() {
    let entry = fields(&[
        ("op", "start"),
        ("workflow", "w"),
        ("input", "{\"a\":1}"),
        ("id", "r1"),
        ("delay", "50"),
        ("follow", "steps"),
    ]);
    let Request::Start(start) = parse(&entry).unwrap() else { panic!("not a start") };
    assert!(start.follow_steps);
    assert_eq!((start.workflow.as_str(), start.id.as_deref(), start.delay_ms), ("w", Some("r1"), 50));
    assert_eq!(start.content(), Content::Json);
}

#[test]
fn a_start_is_read_as_it_is_written() {
    let request = StartRequest {
        id: Some("r".into()),
        key: Some("k".into()),
        delay_ms: 7,
        follow_steps: true,
        context: b"{\"count\":1,\"notes\":[\"a\"]}".to_vec(),
        context_from: Some("earlier".into()),
        reply: Some("sf:{0}:reply:me".into()),
        ..StartRequest::new("w", "{}")
    };
    assert_eq!(parse(&request.fields()).unwrap(), Request::Start(request.clone()));
    let fields = request.context_fields().unwrap();
    assert_eq!(fields[0], ("count".to_owned(), b"1".to_vec()));
    assert_eq!(crate::values::decode::<Vec<String>>("notes", &fields[1].1).unwrap(), ["a"]);
}

#[test]
fn a_signal_is_read_as_it_is_written() {
    for (content, input) in [(Content::Json, &b"[1,2]"[..]), (Content::MessagePack, b"\xc3")] {
        let request = SignalRequest {
            run: "r".into(),
            name: "approval".into(),
            content,
            input: input.to_vec(),
            request: Some("q-1".into()),
        };
        assert_eq!(parse(&request.fields()).unwrap(), Request::Signal(request));
    }
    for step in [None, Some("judge".to_owned())] {
        let (run, event, input) = ("r".into(), "Approval".into(), b"{}".to_vec());
        let request = SendRequest { run, event, step, content: Content::Json, input, request: Some("q-2".into()) };
        assert_eq!(parse(&request.fields()).unwrap(), Request::Send(request));
    }
    let request = PlainRequest { run: "r".into(), request: None };
    assert_eq!(parse(&request.fields("cancel")).unwrap(), Request::Cancel(request.clone()));
    assert_eq!(parse(&request.fields("pause")).unwrap(), Request::Pause(request.clone()));
    assert_eq!(parse(&request.fields("resume")).unwrap(), Request::Resume(request));
    for (id, number) in [(None, None), (Some("r-2".to_owned()), Some(3))] {
        let (run, content, input, request) = ("r".into(), Content::Json, None, Some("q-4".into()));
        let request = ForkRequest { run, id, seq: number, call: number, content, input, request };
        assert_eq!(parse(&request.fields()).unwrap(), Request::Fork(request));
    }
    for input in [None, Some(b"{}".to_vec())] {
        let request = RetryRequest { run: "r".into(), content: Content::Json, input, request: Some("q-3".into()) };
        assert_eq!(parse(&request.fields()).unwrap(), Request::Retry(request));
    }
}

#[test]
fn an_input_left_out_is_an_event_without_fields() {
    for content in ["json", "msgpack"] {
        parse(&fields(&[("op", "start"), ("workflow", "w"), ("content", content)])).unwrap();
    }
}

#[test]
fn each_mistake_has_its_reason() {
    let cases: &[(&[(&str, &str)], &str)] = &[
        (&[("workflow", "w")], "no field op"),
        (&[("op", "dance")], "\"dance\" is not known"),
        (&[("op", "start")], "no field workflow"),
        (&[("op", "cancel")], "no field run"),
        (&[("op", "cancel"), ("run", "r"), ("why", "x")], "a cancel has run, request and reply"),
        (&[("op", "fork")], "name the run to fork"),
        (&[("op", "fork"), ("run", "r"), ("call", "0")], "call \"0\" is not a number"),
        (&[("op", "fork"), ("run", "r"), ("as", "a b")], "run id has ' '"),
        (&[("op", "pause")], "name the run to pause"),
        (&[("op", "resume"), ("run", "r"), ("until", "x")], "a resume has run, request and reply"),
        (&[("op", "retry")], "no field run"),
        (&[("op", "retry"), ("run", "r"), ("content", "json")], "has content and no input"),
        (&[("op", "retry"), ("run", "r"), ("input", "{bad")], "the input cannot be read"),
        (&[("op", "send"), ("run", "r")], "no field event"),
        (&[("op", "send"), ("run", "r"), ("event", "E"), ("step", "a b")], "step has ' '"),
        (&[("op", "signal"), ("run", "r")], "no field name"),
        (&[("op", "signal"), ("run", "r"), ("name", "a\nb")], "signal has '\\n'"),
        (&[("op", "signal"), ("run", "r"), ("name", "n"), ("input", "{bad")], "the input cannot be read"),
        (
            &[("op", "signal"), ("run", "r"), ("name", "n"), ("id", "x")],
            "a signal has run, name, input, content, request and reply",
        ),
        (&[("op", "start"), ("workflow", "a b")], "workflow has ' '"),
        (&[("op", "start"), ("workflow", "w"), ("input", "{bad")], "the input cannot be read"),
        (&[("op", "start"), ("workflow", "w"), ("follow", "all")], "use follow steps"),
        (&[("op", "start"), ("workflow", "w"), ("context", "[1]")], "the context cannot be read as JSON"),
        (&[("op", "start"), ("workflow", "w"), ("context", "{\"\":1}")], "context field is empty"),
        (&[("op", "start"), ("workflow", "w"), ("context_from", "a b")], "context_from has ' '"),
        (&[("op", "start"), ("workflow", "w"), ("delay", "soon")], "whole number of milliseconds"),
        (&[("op", "start"), ("workflow", "w"), ("delay", "99999999999999")], "at most a year"),
        (&[("op", "start"), ("workflow", "w"), ("colour", "red")], "\"colour\" is not known"),
        (&[("op", "start"), ("workflow", "w"), ("content", "xml")], "use json or msgpack"),
        (&[("op", "start"), ("workflow", "w"), ("id", "a b")], "run id has ' '"),
    ];
    for (entry, reason) in cases {
        let error = parse(&fields(entry)).unwrap_err().to_string();
        assert!(error.contains(reason), "{entry:?}: {error}");
    }
}

proptest::proptest! {
    #[test]
    fn no_entry_makes_it_panic(
        entry in proptest::collection::vec((proptest::collection::vec(0u8.., 0..12), proptest::collection::vec(0u8.., 0..40)), 0..8)
    ) {
        let _ = parse(&entry);
        let _ = id_of(&entry);
    }
}
