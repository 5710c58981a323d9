//! Texts and exactly what is said of them.

use super::*;

#[track_caller]
fn check(text: &str, expected: &str) {
    let sources = vec![source("baton.yaml".into(), text.into())];
    let error = parse_definitions(sources).expect_err("must be refused").to_string();
    assert_eq!(error.trim(), expected.trim(), "\n{error}");
}

const GOOD: &str = r#"
groups:
  - name: partners
    possible_owners: [a, b]
hosts:
  - name: receive
    group: partners
  - name: send
receive_ports:
  - name: orders
    locations:
      - name: orders-ftp
        host: receive
        poll_interval: 1s
        after_receive: delete
        stability: { sightings: 2s }
        transport:
          ftp: { server: ftp.example, user: 0123, tls_max: 1.2, password: yes }
send_ports:
  - name: archive
    host: send
    filter: BTS.ReceivePortName == "orders"
    transport:
      file:
        folder: /out
"#;

fn good() -> Definitions {
    parse_definitions(vec![source("a".into(), GOOD.into())]).unwrap_or_else(|e| panic!("{e}"))
}

#[test]
fn good_definitions_are_read_as_they_are_written() {
    let definitions = good();
    let model::definition::ReceiveKind::Ftp(ftp) =
        &definitions.receive_ports[0].locations[0].transport
    else {
        panic!("no FTP");
    };
    assert_eq!((ftp.user.as_str(), ftp.password.as_str()), ("0123", "yes"));
    assert_eq!(ftp.tls_max, model::definition::TlsVersion::V1_2);
    assert_eq!(definitions.groups[0].possible_owners.len(), 2);
}

#[test]
fn what_is_written_out_is_read_back() {
    let text = serde_saphyr::to_string(&good()).expect("text");
    let again = parse_definitions(vec![source("a".into(), text.clone())]);
    assert_eq!(again.unwrap_or_else(|e| panic!("{e}\n{text}")), good());
}

#[test]
fn an_unknown_field_names_the_one_that_was_meant() {
    check(
        "hosts:\n  - name: a\n    gruop: g\n",
        "
error: there is no field gruop here
 --> baton.yaml:3:5
  |
3 |     gruop: g
  |     ^^^^^
  = help: did you mean group? Known here: name, group, nodes, depends_on, policy

1 problem",
    );
}

#[test]
fn a_wrong_duration_says_how_to_write_one() {
    check(
        "groups:\n- name: g\n  policy:\n    restart_delay: 5 weeks\n",
        "
error: \"5 weeks\" is not a duration
 --> baton.yaml:4:20
  |
4 |     restart_delay: 5 weeks
  |                    ^^^^^^^
  = help: write a whole number and a unit, such as 250ms, 5s, 15m, 1h, 7d

1 problem",
    );
}

#[test]
fn all_problems_are_shown_in_the_order_of_the_text() {
    check(
        "
hosts:
  - name: a b
  - nam: c
send_ports:
  - {name: s, host: h, filter: A = 1, transport: {file: {folder: /x}}}
",
        "
error: \"a b\" is not a valid host name
 --> baton.yaml:3:11
  |
3 |   - name: a b
  |           ^^^
  = help: use 1 to 64 letters, digits, '.', '_' or '-', starting with a letter or a digit

error: there is no field nam here
 --> baton.yaml:4:5
  |
4 |   - nam: c
  |     ^^^
  = help: did you mean name? Known here: name, group, nodes, depends_on, policy

error: name is missing here
 --> baton.yaml:4:5
  |
4 |   - nam: c
  |     ^^^
  = help: add `name:`

error: this filter is wrong: `=` compares nothing
 --> baton.yaml:6:34
  |
6 |   - {name: s, host: h, filter: A = 1, transport: {file: {folder: /x}}}
  |                                  ^
  = help: write `==`

4 problems",
    );
}

#[test]
fn each_wrong_item_of_a_list_is_shown() {
    check(
        "
receive_ports:
  - name: p
    locations:
      - {name: l, host: h, enabled: maybe, transport: {file: {folder: /x}}}
      - {name: m, host: h, connections_max: -1, transport: {smb: {folder: /x}}}
      - {name: n, host: h, transport: ftp}
      - {name: o, host: h, transport: {file: {folder: [x]}}}
",
        "
error: expected true or false, found a text
 --> baton.yaml:5:37
  |
5 |       - {name: l, host: h, enabled: maybe, transport: {file: {folder: /x}}}
  |                                     ^^^^^
  = help: write true or false, without quotes

error: -1 is out of range
 --> baton.yaml:6:45
  |
6 |       - {name: m, host: h, connections_max: -1, transport: {smb: {folder: /x}}}
  |                                             ^^
  = help: use 0 to 4294967295

error: ftp needs a value
 --> baton.yaml:7:39
  |
7 |       - {name: n, host: h, transport: ftp}
  |                                       ^^^
  = help: write `ftp: ` and its value, or its settings indented below

error: expected a text, found a list
 --> baton.yaml:8:55
  |
8 |       - {name: o, host: h, transport: {file: {folder: [x]}}}
  |                                                       ^
  = help: write it behind the colon, in quotes if it may be empty

4 problems",
    );
}

#[test]
fn rules_between_definitions_have_places_too() {
    check(
        "
groups:
  - name: g
    possible_owners: [a]
hosts:
  - name: h
receive_ports:
  - name: p
    locations:
      - name: l
        host: h
        transport: {ftp: {server: s, password: hunter2}}
send_ports:
  - name: s
    host: hh
    filter: 'true'
    transport: {file: {folder: /x}}
",
        "
error: group g can run on one node only, so it cannot fail over
 --> baton.yaml:4:22
  |
4 |     possible_owners: [a]
  |                      ^
  = help: name a second possible owner, or write `single_node: true` if that is meant

error: host h is not clustered, so several nodes would receive from location l at once, and FTP \
allows one only: FTP does not lock files
  --> baton.yaml:11:15
   |
11 |         host: h
   |               ^
   = help: put the host into a group (`group: NAME` at host h, NAME defined under groups), or run \
`baton host cluster h --group NAME`

error: there is no host hh
  --> baton.yaml:15:11
   |
15 |     host: hh
   |           ^^
   = help: define host hh, or use one of: h

3 problems",
    );
}

#[test]
fn a_place_that_is_not_written_is_shown_by_its_owner() {
    check(
        "groups:\n  - {name: g}\nhosts:\n  - name: h\n    group: g\n    nodes: [a]\n",
        "
error: every node is a possible owner of group g but has no instance of host h
 --> baton.yaml:6:12
  |
6 |     nodes: [a]
  |            ^
  = help: add the node to the host's nodes, or name the group's possible_owners without it

1 problem",
    );
}

#[test]
fn a_password_is_never_shown() {
    check(
        "
receive_ports:
  - name: p
    locations:
      - {name: l, host: h, transport: {ftp: {server: s, password: hunter2, foldr: x}}}
",
        "
error: there is no field foldr here
 --> baton.yaml:5:76
  |
5 |       - {name: l, host: h, transport: {ftp: {server: s, password: ***, foldr: x}}}
  |                                                                        ^^^^^
  = help: did you mean folder? Known here: server, port, user, password, password_file, folder, \
file_mask, tls, tls_max, ca_file, data_mode, listing, connect_timeout, reply_timeout

1 problem",
    );
    check(
        "a: {password: hunter2\nb: 1\n",
        "
error: this is not YAML: while parsing a flow mapping, did not find expected ',' or '}'
 --> baton.yaml:2:2
  |
2 | b: 1
  |  ^
  = help: check indentation, quotes and colons

1 problem",
    );
    check(
        "a:\n  password: hunter2: x\n",
        "
error: this is not YAML: mapping values are not allowed in this context
 --> baton.yaml:2:20
  |
2 |   password:***
  |            ^^^
  = help: check indentation, quotes and colons

1 problem",
    );
}

#[test]
fn what_is_not_yaml_says_where() {
    check(
        "hosts:\n\t- name: a\n",
        "
error: this is not YAML: tabs disallowed within this context (block indentation)
 --> baton.yaml:2:2
  |
2 |  - name: a
  |  ^
  = help: check indentation, quotes and colons

1 problem",
    );
    check(
        "hosts: []\nhosts: []\n",
        "
error: hosts stands here twice
 --> baton.yaml:2:1
  |
2 | hosts: []
  | ^
  = help: take one of them out, or make them one

1 problem",
    );
    check(
        "hosts: []\n---\nhosts: []\n",
        "
error: a second document begins here
 --> baton.yaml:3:1
  |
3 | hosts: []
  | ^
  = help: take `---` out, or use a file for each in one folder

1 problem",
    );
    check(
        "just a text\n",
        "
error: expected a mapping, found a text
 --> baton.yaml:1:1
  |
1 | just a text
  | ^^^^^^^^^^^
  = help: write its fields, each on a line of its own: groups, hosts, resources, receive_ports, \
send_ports

1 problem",
    );
}

#[test]
fn bombs_do_not_go_off() {
    let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for level in 1..12 {
        let below = vec![format!("*a{}", level - 1); 10].join(", ");
        bomb.push_str(&format!("a{level}: &a{level} [{below}]\n"));
    }
    let deep = format!("hosts: {}{}", "[".repeat(5000), "]".repeat(5000));
    for text in [bomb, deep] {
        let error = parse_definitions(vec![source("b".into(), text)]).expect_err("refused");
        assert!(error.to_string().contains("too deep, too large"), "{error}");
    }
}

#[test]
fn hostile_text_does_not_reach_the_terminal() {
    let text = "hosts:\n  - name: \"\u{202e}x\"\n    \"\\e[31m\u{200b}\": 1\n";
    let error = parse_definitions(vec![source("b\x1b[1m".into(), text.into())]);
    let error = error.expect_err("refused").to_string();
    assert!(!error.chars().any(|c| c != '\n' && crate::render::is_hostile(c)), "{error}");
}

#[test]
fn long_lines_are_cut_around_the_mark() {
    let text = format!("hosts: [{{name: a}}, {}{{nam: b}}]", "{name: c}, ".repeat(30));
    let error = parse_definitions(vec![source("b".into(), text)]).expect_err("refused").to_string();
    let lines: Vec<&str> = error.lines().collect();
    assert!(lines[3].chars().count() < 100, "{error}");
    let column = lines[4].find('^').expect("mark");
    assert_eq!(&lines[3][column..column + 3], "nam", "{error}");
}

#[test]
fn a_folder_is_one_document() {
    let folder = tempfile::tempdir().expect("folder");
    let write = |name: &str, text: &str| {
        std::fs::write(folder.path().join(name), text).expect("file");
    };
    write("1.yaml", "hosts:\n  - name: a\nsend_ports:\n");
    write("2.yml", "# nothing yet\n");
    write("3.yaml", "hosts:\n  - name: b\n");
    write("notes.txt", "not: read");
    let definitions = definitions(folder.path()).unwrap_or_else(|error| panic!("{error}"));
    let names: Vec<_> = definitions.hosts.iter().map(|host| host.name.as_str()).collect();
    assert_eq!(names, ["a", "b"]);

    write("3.yaml", "hosts:\n  - name: b\n  - name: a\n");
    let error = super::definitions(folder.path()).expect_err("refused").to_string();
    let place = format!("{}:3:11", folder.path().join("3.yaml").display());
    assert!(error.contains(&place), "{error}");

    let empty = tempfile::tempdir().expect("folder");
    let error = super::definitions(empty.path()).expect_err("refused").to_string();
    assert!(error.contains("holds no *.yaml"), "{error}");
    let error = super::definitions(Path::new("/nowhere/x.yaml")).expect_err("refused").to_string();
    assert!(error.starts_with("error: /nowhere/x.yaml cannot be read: No such file"), "{error}");
}

#[test]
fn no_text_panics() {
    const LETTERS: &[&str] = &[
        "hosts", "a", ":", " ", "{", "}", "[", "]", "&", "*", "|", ">", "'", "\"", "#", ",", "!",
        "-", "\n", "\n  ", "\t", "\u{e4}", "password", "name", "<<", "?", "%", "---", "\r\n",
    ];
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = |below: usize| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        usize::try_from(seed % below as u64).unwrap_or(0)
    };
    for _ in 0..20_000 {
        let length = random(24);
        let text: String = (0..length).map(|_| LETTERS[random(LETTERS.len())]).collect();
        let _ = parse_definitions(vec![source("x".into(), text)]);
    }
}

#[test]
fn what_is_no_utf8_is_shown_in_its_line() {
    let error = limited("x.yaml", &b"hosts:\n  - {name: M\xfcller}\n"[..]).expect_err("refused");
    let error = error.to_string();
    assert!(
        error.starts_with("error: this byte (0xfc) is not UTF-8\n --> x.yaml:2:13\n"),
        "{error}"
    );
    assert!(error.contains("2 |   - {name: M\u{fffd}ller}\n  |             ^\n"), "{error}");
    let error = limited("x.yaml", &b"password: hunter2\xfc\n"[..]).expect_err("refused");
    assert!(!error.to_string().contains("hunter2"), "{error}");
}
