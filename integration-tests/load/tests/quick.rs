//! The tool itself: a few scenarios, quickly. The measured times are not checked here.

use std::process::Command;

use serde_json::Value;

#[test]
fn scenarios_run_and_give_their_rows() {
    let picture = std::env::temp_dir().join(format!("stepfleet-load-{}.svg", std::process::id()));
    let output = Command::new(env!("CARGO_BIN_EXE_stepfleet-load"))
        .args(["--quick", "--json", "--svg"])
        .arg(&picture)
        .args([
            "--only",
            "chain-off",
            "recorded-steps",
            "recorded-flat-streaming",
            "hand-off",
            "fan-out",
            "edit-field",
            "intake",
            "partitions",
        ])
        .output()
        .expect("the tool starts");
    // It fails by itself if a run did not complete, or a body ran too often.
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));

    let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let rows = report["rows"].as_array().expect("rows");
    let names: Vec<_> = rows.iter().filter_map(|row| row["name"].as_str()).collect();
    let expected = [
        "chain-off",
        "fcalls-per-step",
        "recorded-steps",
        "recorded-flat-streaming",
        "hand-off-p50",
        "hand-off-p99",
        "fan-out-1000",
        "edit-field",
        "intake",
        "memory-queued",
        "partitions-redis",
        "partitions-worker",
    ];
    assert_eq!(names, expected);
    for row in rows {
        for of in ["figure", "ratio"] {
            let [min, median, max] =
                ["min", "median", "max"].map(|name| row[of][name].as_f64().expect("a finite number"));
            assert!(0.0 < min && min <= median && median <= max, "{row}");
        }
    }
    // Each branch runs at least once, and each step is committed by a call.
    let ratio = |name| rows.iter().find(|row| row["name"] == name).and_then(|row| row["ratio"]["median"].as_f64());
    assert!(ratio("edit-field") >= Some(1.0), "{report}");
    assert!(ratio("fcalls-per-step") > Some(0.0), "{report}");

    let picture_text = std::fs::read_to_string(&picture).expect("the picture");
    std::fs::remove_file(&picture).expect("the picture");
    assert!(picture_text.starts_with("<svg") && picture_text.contains("hand-off-p50"), "{picture_text}");
}

#[test]
fn a_name_that_is_not_there_is_refused() {
    let output = Command::new(env!("CARGO_BIN_EXE_stepfleet-load")).args(["--quick", "--only", "chian"]).output();
    let output = output.expect("the tool starts");
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && told.contains("chian") && told.contains("chain-off"), "{told}");
}
