use super::*;
use crate::server::logs::read;

fn open(dir: &Path, secrets: &[&str]) -> Writer {
    let secrets: Vec<String> = secrets.iter().map(|s| (*s).to_owned()).collect();
    Writer::open(dir, 7, 1 << 20, &secrets).unwrap()
}

fn text(dir: &Path) -> String {
    String::from_utf8(std::fs::read(dir.join("7.log")).unwrap()).unwrap()
}

#[test]
fn a_piece_is_taken_only_where_the_log_ends() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = open(dir.path(), &[]);
    assert_eq!(writer.append(0, b"one\n", 1).unwrap(), Appended::Taken(4));
    assert_eq!(writer.append(0, b"one\n", 1).unwrap(), Appended::Elsewhere(4));
    assert_eq!(writer.append(9, b"x", 1).unwrap(), Appended::Elsewhere(4));
    assert_eq!(writer.append(4, b"two", 1).unwrap(), Appended::Taken(7));
    assert_eq!(writer.append(7, &vec![b'x'; 1 << 20], 1).unwrap(), Appended::TooBig);
    assert_eq!(text(dir.path()), "one\ntwo");
    assert_eq!(writer.crc32(), crc32fast::hash(b"one\ntwo"));
    writer.restart().unwrap();
    assert_eq!(writer.append(0, b"one\ntwo!", 1).unwrap(), Appended::Taken(8));
    assert_eq!(text(dir.path()), "one\ntwo!");
}

#[test]
fn secrets_are_hidden_at_every_border_and_offsets_stay() {
    let sent = b"key s3cr3t-value and czNjcjN0LXZhbHVl\nnot s3cr3t-val\ns3cr3t-value";
    for size in 1..sent.len() {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = open(dir.path(), &["s3cr3t-value"]);
        for piece in sent.chunks(size) {
            let start = writer.received();
            writer.append(start, piece, 1).unwrap();
            assert!(!text(dir.path()).contains("s3cr3t-value"));
        }
        writer.flush(1).unwrap();
        assert_eq!(writer.crc32(), crc32fast::hash(sent), "the checksum is of what was sent");
        let shown = text(dir.path());
        assert_eq!(shown, "key [MASKED]**** and [MASKED]********\nnot s3cr3t-val\n[MASKED]****", "{size}");
        assert_eq!(shown.len(), sent.len());
    }
}

#[test]
fn after_a_kill_the_log_goes_on_where_it_surely_was() {
    let sent: Vec<u8> = (0..5000).flat_map(|n| format!("line {n} of s3cr3t-value\n").into_bytes()).collect();
    let whole = tempfile::tempdir().unwrap();
    let mut writer = open(whole.path(), &["s3cr3t-value"]);
    writer.append(0, &sent, 1).unwrap();
    writer.flush(1).unwrap();
    let expected = text(whole.path());
    proptest::proptest!(proptest::prelude::ProptestConfig::with_cases(24), |(
        sizes in proptest::collection::vec(1usize..40_000, 1..30), torn in 0usize..100
    )| {
        let dir = tempfile::tempdir().unwrap();
        let mut sizes = sizes.into_iter().cycle();
        let mut at = 0;
        while at < sent.len() {
            // every piece is taken by a server that is killed afterwards
            let mut writer = open(dir.path(), &["s3cr3t-value"]);
            at = usize::try_from(writer.received()).unwrap();
            let end = (at + sizes.next().unwrap() + 40).min(sent.len());
            assert_eq!(writer.append(at as u64, &sent[at..end], 1).unwrap(), Appended::Taken(end as u64));
            if end == sent.len() {
                writer.flush(1).unwrap();
                assert_eq!(writer.crc32(), crc32fast::hash(&sent));
                break;
            }
            drop(writer);
            // killed after the log was written and before its size was
            let mut log = OpenOptions::new().append(true).open(dir.path().join("7.log")).unwrap();
            log.write_all(&vec![b'?'; torn]).unwrap();
        }
        assert_eq!(text(dir.path()), expected.as_str());
        let lines = read::lines(dir.path(), 7, 4321, 2).unwrap();
        assert_eq!(lines.total, 5000);
        let html: Vec<&str> = lines.lines.iter().map(|line| line.html.as_str()).collect();
        assert_eq!(html, ["line 4320 of [MASKED]****", "line 4321 of [MASKED]****"]);
    });
}

#[test]
fn sections_are_found_wherever_the_log_is_cut() {
    let sent = b"a\nsection_start:10:one[collapsed=true]\r\x1b[0Kheader\nx\nsection_start:11:two\r\x1b[0Ky\n\
        section_end:12:two\r\x1b[0Ksection_end:13:one\r\x1b[0Kz\n";
    for size in 1..sent.len() {
        let dir = tempfile::tempdir().unwrap();
        for piece in sent.chunks(size) {
            let mut writer = open(dir.path(), &[]);
            let start = writer.received();
            writer.append(start, piece, 5000).unwrap();
        }
        let sections = read::sections(dir.path(), 7).unwrap();
        let got: Vec<_> = sections.iter().map(|s| (s.name.as_str(), s.first, s.last, s.collapsed)).collect();
        assert_eq!(got, [("one", 2, Some(5), true), ("two", 4, Some(5), false)], "pieces of {size}");
    }
}

#[test]
fn an_index_that_is_gone_is_made_again() {
    let dir = tempfile::tempdir().unwrap();
    let sent: Vec<u8> = (0..10_500).flat_map(|n| format!("line {n}\n").into_bytes()).collect();
    open(dir.path(), &[]).append(0, &sent, 1).unwrap();
    let places = || {
        let text = std::fs::read_to_string(dir.path().join("7.index")).unwrap();
        text.lines().filter(|line| line.starts_with("L ")).map(str::to_owned).collect::<Vec<_>>()
    };
    let before = places();
    assert_eq!(before.len(), 10);
    std::fs::remove_file(dir.path().join("7.index")).unwrap();
    drop(open(dir.path(), &[]));
    assert_eq!(places(), before);
}
