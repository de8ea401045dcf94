//! Checks the documentation against the repository: relative links lead somewhere, and every `chatctl` command that
//! is shown exists with the flags that are shown.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

pub(crate) fn check(root: &Path) -> Result<(), String> {
    let mut wrong = Vec::new();
    let mut cli = Cli { binary: root.join("target/debug/chatctl"), help: HashMap::new() };
    let pages = pages(root)?;
    for page in &pages {
        let text = fs::read_to_string(root.join(page)).map_err(|e| format!("failed to read {page}: {e}"))?;
        for (number, line) in text.lines().enumerate() {
            let here = format!("{page}:{}", number + 1);
            wrong.extend(
                broken_links(root, page, line)
                    .into_iter()
                    .map(|link| format!("{here}: no such place: {link}")),
            );
        }
        for (number, command) in shown_commands(&text) {
            if let Err(why) = cli.accepts(&command)? {
                wrong.push(format!("{page}:{number}: `{command}`: {why}"));
            }
        }
    }
    if wrong.is_empty() {
        println!("docs: {} pages, all links and commands are right", pages.len());
        return Ok(());
    }
    Err(format!("the documentation is wrong in {} places:\n  {}", wrong.len(), wrong.join("\n  ")))
}

fn pages(root: &Path) -> Result<Vec<String>, String> {
    let listed = Command::new("git")
        .args(["ls-files", "-co", "--exclude-standard", "*.md"])
        .current_dir(root)
        .output()
        .map_err(|e| format!("failed to run git: {e}"))?;
    Ok(String::from_utf8_lossy(&listed.stdout).lines().map(str::to_owned).collect())
}

/// Relative links of a line whose file or heading does not exist.
fn broken_links(root: &Path, page: &str, line: &str) -> Vec<String> {
    let folder = root.join(page).parent().map(Path::to_path_buf).unwrap_or_default();
    let mut broken = Vec::new();
    for part in line.split("](").skip(1) {
        let Some((target, _)) = part.split_once(')') else { continue };
        if target.contains("://") || target.starts_with("mailto:") {
            continue;
        }
        let (path, anchor) = target.split_once('#').map_or((target, None), |(p, a)| (p, Some(a)));
        let file = if path.is_empty() { root.join(page) } else { folder.join(path) };
        let found = file.exists()
            && anchor.is_none_or(|anchor| {
                fs::read_to_string(&file).is_ok_and(|text| anchors(&text).contains(anchor))
            });
        if !found {
            broken.push(target.to_owned());
        }
    }
    broken
}

/// The anchors that a renderer makes of a page's headings.
fn anchors(text: &str) -> HashSet<String> {
    text.lines()
        .filter(|line| line.starts_with('#'))
        .map(|line| {
            line.trim_start_matches('#')
                .trim()
                .chars()
                .filter_map(|c| match c {
                    ' ' => Some('-'),
                    c if c.is_alphanumeric() || c == '-' || c == '_' => Some(c.to_ascii_lowercase()),
                    _ => None,
                })
                .collect()
        })
        .collect()
}

/// Lines of code blocks that call `chatctl`, by its name or through `cargo run --`.
fn shown_commands(text: &str) -> Vec<(usize, String)> {
    let mut inside = false;
    let mut found = Vec::new();
    for (number, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            inside = !inside;
            continue;
        }
        let line = line.trim_start().trim_start_matches("$ ");
        let call = line.strip_prefix("chatctl ").or_else(|| line.strip_prefix("cargo run -- "));
        if let (true, Some(call)) = (inside, call) {
            let call = call.split(" #").next().unwrap_or(call).split(" | ").next().unwrap_or(call);
            found.push((number + 1, call.trim().to_owned()));
        }
    }
    found
}

struct Cli {
    binary: PathBuf,
    /// Help by verb path, for instance `local up`; `None` where there is no such verb.
    help: HashMap<String, Option<String>>,
}

impl Cli {
    fn accepts(&mut self, command: &str) -> Result<Result<(), String>, String> {
        let mut words = command.split_whitespace().peekable();
        let mut verb = String::new();
        let mut help = self.help_of("")?.unwrap_or_default();
        // Global flags may stand before the verb; a verb may have verbs of its own.
        while let Some(word) = words.peek().filter(|word| !word.starts_with('-')) {
            let longer = format!("{verb} {word}").trim().to_owned();
            match self.help_of(&longer)? {
                Some(text) => {
                    help = text;
                    verb = longer;
                    words.next();
                }
                None if verb.is_empty() => return Ok(Err(format!("there is no verb `{word}`"))),
                None => break,
            }
        }
        for word in words.filter(|word| word.starts_with("--")) {
            let flag = word.split('=').next().unwrap_or(word);
            let known = help.split(|c: char| !(c.is_alphanumeric() || c == '-')).any(|token| token == flag);
            if !known {
                return Ok(Err(format!("`{verb}` has no flag `{flag}`")));
            }
        }
        Ok(Ok(()))
    }

    fn help_of(&mut self, verb: &str) -> Result<Option<String>, String> {
        if let Some(known) = self.help.get(verb) {
            return Ok(known.clone());
        }
        let done = Command::new(&self.binary)
            .args(verb.split_whitespace())
            .arg("--help")
            .output()
            .map_err(|e| format!("failed to run {}: {e}", self.binary.display()))?;
        let text = String::from_utf8_lossy(&done.stdout).into_owned();
        // `chatctl logs connect --help` also succeeds: a positional argument is not a verb.
        let usage = text.lines().find(|line| line.starts_with("Usage:")).unwrap_or_default();
        let is_verb = done.status.success() && usage.contains(&format!("chatctl {verb}"));
        let help = is_verb.then_some(text);
        self.help.insert(verb.to_owned(), help.clone());
        Ok(help)
    }
}
