//! Log lines: bounded in number, harmless in content.

use crate::sample;

use weir_telemetry::*;

fn with_sink(format: EventFormat) -> (std::sync::Arc<Telemetry>, sample::Sink) {
    let sink = sample::Sink::default();
    let config = TelemetryConfig { events: format, ..sample::config() };
    (Telemetry::with_event_sink(config, Box::new(sink.clone())), sink)
}

#[test]
fn a_million_errors_are_one_line_a_second_and_a_number() {
    let (telemetry, sink) = with_sink(EventFormat::Logfmt);
    for second in 0..3 {
        for _ in 0..100_000 {
            let event =
                Event::new(Severity::Error, "backend_lost", "lost").text("backend", "127.0.0.1:11211");
            telemetry.events().emit(&event, Seconds(second));
        }
    }
    telemetry.events().emit(&Event::new(Severity::Info, "ready", "ready"), Seconds(2));
    let text = sink.text();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 4, "{text}");
    assert_eq!(
        lines[1],
        "unix=1700000001 level=\"error\" cause=\"backend_lost\" message=\"lost\" backend=\"127.0.0.1:11211\" \
         suppressed=99999"
    );
    let page = telemetry.render(None, Seconds(3)).body;
    assert!(page.contains("weir_log_suppressed_total{cause=\"backend_lost\"} 299997\n"));
    assert!(page.contains("weir_log_suppressed_total{cause=\"ready\"} 0\n"));
}

#[test]
fn a_cause_may_have_more_lines_and_is_still_bounded() {
    let (telemetry, sink) = with_sink(EventFormat::Logfmt);
    let event = Event::new(Severity::Info, "control", "control request");
    let written =
        |second| (0..10).filter(|_| telemetry.events().emit_up_to(4, &event, Seconds(second))).count();
    assert_eq!((written(0), written(1)), (4, 4), "four a second, and again four in the next");
    let text = sink.text();
    assert_eq!(text.lines().count(), 8, "{text}");
    assert_eq!(text.matches(" suppressed=6\n").count(), 1, "the first line of the next second tells: {text}");
    let page = telemetry.render(None, Seconds(2)).body;
    assert!(page.contains("weir_log_suppressed_total{cause=\"control\"} 12\n"), "{page}");
}

#[test]
fn outside_strings_are_inert_in_both_forms() {
    let hostile = "x\u{1b}]0;owned\u{7}\nlevel=info $(reboot) `id` <script>alert(1)</script> \u{202e}\" y";
    for format in [EventFormat::Logfmt, EventFormat::Json] {
        let (telemetry, sink) = with_sink(format);
        let event = Event::new(Severity::Warn, "caller_over_ceiling", hostile)
            .text("process", hostile)
            .number("n", 3);
        assert!(telemetry.events().emit(&event, Seconds(0)));
        let line = sink.text();
        assert_eq!(line.matches('\n').count(), 1, "one line, whatever the name holds: {line:?}");
        for sign in ["\u{1b}", "\u{7}", "$(", "`", "<script", "\u{202e}"] {
            assert!(!line.contains(sign), "{sign:?} in {line:?}");
        }
        if format == EventFormat::Json {
            let value: serde_json::Value = serde_json::from_str(&line).expect("JSON");
            assert_eq!(value["process"], hostile);
            assert_eq!(value["n"], 3);
        }
    }
}

#[test]
fn a_ninth_field_and_a_broken_sink_change_nothing() {
    struct Broken;
    impl std::io::Write for Broken {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(std::io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let telemetry = Telemetry::with_event_sink(sample::config(), Box::new(Broken));
    let event = (0..12).fold(Event::new(Severity::Info, "ready", "m"), |event, i| event.number("n", i));
    assert!(telemetry.events().emit(&event, Seconds(0)));
}
