//! What the parser makes of whole files.

use std::time::Duration;

use crate::dockerfile::*;

fn parsed(text: &str) -> Dockerfile {
    parse("Dockerfile", text.as_bytes()).unwrap_or_else(|errors| panic!("{errors}"))
}

fn only(text: &str) -> Instruction {
    let mut file = parsed(&format!("FROM scratch\n{text}"));
    assert_eq!(file.stages[0].instructions.len(), 1);
    file.stages[0].instructions.remove(0)
}

fn texts(words: &[Word]) -> Vec<&str> {
    words.iter().map(|word| word.text.as_str()).collect()
}

fn messages(text: &str) -> Vec<String> {
    let errors = parse("Dockerfile", text.as_bytes()).unwrap_err();
    let line = |error: &SyntaxError| errors.source.line_range(error.span).0;
    errors.errors.iter().map(|error| format!("{}: {error}", line(error))).collect()
}

#[test]
fn stages_have_names_platforms_and_arguments() {
    let file = parsed("ARG V=1 W\n# build: makes it\nfrom --platform=$P a:$V as Build\nUSER x\nFROM build\n");
    assert_eq!(file.global_args.len(), 2);
    assert_eq!(file.global_args[0].value.as_ref().unwrap().text, "1");
    let [build, last] = &file.stages[..] else { panic!() };
    assert_eq!((build.name(), build.base.text.as_str()), (Some("build"), "a:$V"));
    assert_eq!(build.platform.as_ref().unwrap().text, "$P");
    assert_eq!(
        (build.keyword.text.as_str(), build.alias.as_ref().unwrap().keyword.text.as_str()),
        ("from", "as")
    );
    assert_eq!(texts(&build.comments), ["build: makes it"]);
    assert_eq!((last.name(), last.instructions.len()), (None, 0));
}

#[test]
fn directives_stand_at_the_top_only() {
    let file =
        parsed("# Escape = `\n#syntax=docker/dockerfile:1 x\n# check=skip=all\n\n# escape=\\\nFROM a\n");
    assert_eq!(file.directives.escape, '`');
    assert_eq!(file.directives.syntax.unwrap().text, "docker/dockerfile:1 x");
    assert!(file.directives.checks.skips_all);
    assert_eq!(parsed("\u{feff}# escape=`\r\nFROM a\r\n").directives.escape, '`');
    assert_eq!(
        messages("# escape=x\n# escape=`\n# escape=`\nFROM a")[0],
        "1: `x` cannot be the escape character"
    );
    assert_eq!(messages("# syntax=a\n# syntax=b\nFROM a"), ["2: directive `syntax` is given twice"]);
}

#[test]
fn copy_takes_flags_paths_and_documents() {
    let text = "COPY --from=0 --chown=1:$G --chmod=u+x --link --parents --exclude=*.o --exclude=b a <<X <<-'Y' /d/\n\
                $A\nX\n\t\ttabs\n\tY\n";
    let Kind::Copy(copy) = only(text).kind else { panic!() };
    let transfer = &copy.transfer;
    assert_eq!((copy.from.unwrap().text.as_str(), copy.parents, transfer.link), ("0", true, true));
    assert_eq!(transfer.chown.as_ref().unwrap().text, "1:$G");
    assert_eq!((texts(&transfer.sources), texts(&transfer.exclude)), (vec!["a"], vec!["*.o", "b"]));
    let [x, y] = &transfer.documents[..] else { panic!() };
    assert_eq!((x.name.as_str(), x.content.as_str(), x.expand), ("X", "$A\n", true));
    assert_eq!((y.name.as_str(), y.content.as_str(), y.expand), ("Y", "tabs\n", false));
    assert_eq!(transfer.destination.text, "/d/");
}

#[test]
fn add_tells_no_flag_from_false() {
    let add = |text: &str| match only(text).kind {
        Kind::Add(add) => add,
        other => panic!("{other:?}"),
    };
    assert_eq!((add("ADD a b").unpack, add("ADD --unpack a b").unpack), (None, Some(true)));
    assert_eq!(add("ADD --unpack=FALSE --keep-git-dir=true a b").keep_git_dir, Some(true));
    assert_eq!(add("ADD [\"a b\", \"c\"]").transfer.sources[0].text, "a b");
}

#[test]
fn run_keeps_heredocs_for_the_shell() {
    let script = |text: &str| match only(text).kind {
        Kind::Run(run) => run.script(),
        other => panic!("{other:?}"),
    };
    let shell = |text: &str| CommandLine::Shell(text.to_owned());
    assert_eq!(script("RUN <<EOF\necho a\nEOF").command, shell("echo a\n"));
    assert_eq!(script("RUN <<-EOF\n\techo a\n\tEOF").command, shell("echo a\n"));
    assert_eq!(script("RUN cat <<A 3<<-B\na\nA\n\tb\n\tB").command, shell("cat <<A 3<<-B\na\nA\n\tb\nB"));
    let file = script("RUN <<PY\n#!/usr/bin/python\nprint()\nPY");
    assert_eq!(file.command, shell("/dev/pipes/PY"));
    assert_eq!(file.file.unwrap().content, "#!/usr/bin/python\nprint()\n");
    assert_eq!(script("RUN [\"a\", \"<<b\"]").command, CommandLine::Exec(vec!["a".into(), "<<b".into()]));
    assert_eq!(only("RUN <<EOF\necho a\nb\nEOF").title(), "RUN <<EOF (echo a...)");
}

#[test]
fn run_has_modes_mounts_and_devices() {
    let text = "RUN --network=none --security=insecure --mount=type=cache,target=/c \\\n --mount=from=b,dst=/d \
                --device=vendor/x=y,required --device=name=z,required=false make";
    let Kind::Run(run) = only(text).kind else { panic!() };
    assert_eq!((run.network, run.security), (Network::None, Security::Insecure));
    assert_eq!(run.mounts[1].from().unwrap().text, "b");
    let devices: Vec<_> = run.devices.iter().map(|device| (device.name.as_str(), device.required)).collect();
    assert_eq!(devices, [("vendor/x=y", true), ("z", false)]);
}

#[test]
fn healthchecks_have_durations() {
    let Kind::Healthcheck(Healthcheck::Check { command, interval, timeout, retries, .. }) =
        only("HEALTHCHECK --interval=1m30s --timeout=0s --retries=3 CMD a  b").kind
    else {
        panic!()
    };
    assert_eq!((interval, timeout, retries), (Duration::from_secs(90), Duration::ZERO, 3));
    assert_eq!(command, CommandLine::Shell("a  b".into()));
    assert_eq!(only("healthcheck none").kind, Kind::Healthcheck(Healthcheck::None));
}

#[test]
fn onbuild_keeps_the_expression() {
    let onbuild = |text: &str| match only(text).kind {
        Kind::Onbuild(onbuild) => onbuild.expression,
        other => panic!("{other:?}"),
    };
    assert_eq!(onbuild("onbuild  copy  a \\\n b "), "copy  a  b ");
    assert_eq!(onbuild("ONBUILD RUN <<E\nx\nE\n"), "RUN <<E\nx\nE");
    let trigger = parse_trigger("COPY <<E /x\ny\nE").unwrap();
    assert!(matches!(trigger.kind, Kind::Copy(copy) if copy.transfer.documents[0].content == "y\n"));
    let errors = parse_trigger("ENV --flag").unwrap_err().errors;
    assert!(errors.len() == 2 && errors.is_sorted_by_key(|error| error.span), "{errors:?}");
    assert!(parse_trigger("FROM x").is_err() && parse_trigger("USER a\nUSER b").is_err());
}

#[test]
fn words_know_their_place() {
    let file = parsed("FROM scratch\nRUN --network=host \\\n  true\nENV A=1 \\\n  B=\"x y\"\n");
    let at = |span: Span| &file.source.text()[span.start..span.end];
    let [run, env] = &file.stages[0].instructions[..] else { panic!() };
    assert_eq!(at(run.span), "RUN --network=host \\\n  true");
    let Kind::Env(pairs) = &env.kind else { panic!() };
    assert_eq!((at(pairs[1].key.span), at(pairs[1].value.span)), ("B", "\"x y\""));
}

#[test]
fn expansion_touches_what_it_should() {
    let lookup = |name: &str| (name == "A").then(|| "1 2".to_owned());
    let expanded = |text: &str| Expander::new('\\', &lookup).kind(&only(text).kind).unwrap();
    let Kind::Copy(copy) = expanded("COPY --chown=$A --exclude=$A $A <<$A <<\"B\" /$A\n$A'\n$A\n$A\nB\n")
    else {
        panic!()
    };
    assert_eq!(copy.transfer.exclude[0].text, "$A");
    assert_eq!(
        (copy.transfer.chown.unwrap().text, copy.transfer.sources[0].text.as_str()),
        ("1 2".into(), "1 2")
    );
    let contents: Vec<_> = copy.transfer.documents.iter().map(|file| file.content.as_str()).collect();
    assert_eq!(contents, ["1 2'\n", "$A\n"]);
    assert_eq!(expanded("CMD $A"), Kind::Cmd(CommandLine::Shell("$A".into())));
    let Kind::Env(pairs) = expanded("ENV $A='$A' B=$A") else { panic!() };
    assert_eq!((pairs[0].key.text.as_str(), pairs[0].value.text.as_str()), ("1 2", "$A"));
    assert_eq!(pairs[1].value.text, "1 2");
}

#[test]
fn history_reads_like_buildkits() {
    let shell = ["/bin/sh".to_owned(), "-c".to_owned()];
    let lookup = |_: &str| None;
    let text = |text: &str| {
        let kind = Expander::new('\\', &lookup).kind(&only(text).kind).unwrap();
        history::created_by(&kind, &shell).unwrap()
    };
    assert_eq!(text("COPY --chown=1 --link a <<E b\nE\n"), "COPY --chown=1 a <<E b # buildkit");
    assert_eq!(text("ENV A=b C=\"d e\""), "ENV A=b C=d e");
    assert_eq!(text("CMD [\"sh\", \"-x\"]"), "CMD [\"sh\" \"-x\"]");
    assert_eq!(text("ENTRYPOINT a \"b\""), "ENTRYPOINT [\"/bin/sh\" \"-c\" \"a \\\"b\\\"\"]");
    assert_eq!(text("EXPOSE 80 443/udp"), "EXPOSE [443/udp 80/tcp]");
    assert_eq!(text("VOLUME /a /b"), "VOLUME [/a /b]");
    assert_eq!(
        text("HEALTHCHECK --interval=30s CMD true"),
        "HEALTHCHECK {Test:[CMD-SHELL true] Interval:30s Timeout:0s StartPeriod:0s StartInterval:0s Retries:0}"
    );
    let args = [("A".to_owned(), "1".to_owned())];
    assert_eq!(history::run(&shell, &args), "RUN |1 A=1 /bin/sh -c # buildkit");
    assert_eq!(history::arg(&[("A".into(), Some("1".into())), ("B".into(), None)]), "ARG A=1 B");
}

#[test]
fn all_errors_of_a_file_are_found() {
    let text = "USER a\nFROM a as 1b\nCOPPY a b\nCOPY --form=x --link=maybe a\nRUN --network=foo x\nENV A\n\
                CMD [1]\nFROM b\nONBUILD ONBUILD RUN x\nRUN <<E\nx\n";
    assert_eq!(
        messages(text),
        [
            "1: `USER` stands before the first `FROM`",
            "2: `1b` cannot be the name of a stage",
            "3: unknown instruction `COPPY`",
            "4: `COPY` needs a source and a destination",
            "4: unknown flag `--form` of `COPY`",
            "4: `maybe` is not a value of `--link`; expected `true` or `false`",
            "5: `foo` is not a value of `--network`; expected `default`, `none` or `host`",
            "6: `ENV` needs a name and a value",
            "7: a JSON array can only hold strings here",
            "9: `ONBUILD` cannot trigger `ONBUILD`",
            "10: the heredoc `E` does not end",
        ]
    );
}

#[test]
fn bodies_of_misspelt_instructions_are_no_instructions() {
    assert_eq!(
        messages("FROM a\nCOPPY <<E /x\nfoo\nE\nRUM x"),
        ["2: unknown instruction `COPPY`", "5: unknown instruction `RUM`"]
    );
}
