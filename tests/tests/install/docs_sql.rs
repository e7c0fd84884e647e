//! The documentation is true: every ```` ```sql ```` block of README.md and docs/*.md runs, in order, in a database of
//! its page's own, and prints the ```` ```text ```` block that follows it, where one does.
//!
//! A block that needs what a test cannot have (another extension, a restart) is marked ```` ```sql no-run ````.
//! `KRONOS_DOCS_UPDATE=1` writes what the blocks print into the pages instead, for a person to read before commit.

use kronos_tests::{Database, project_root};
use std::path::{Path, PathBuf};

/// A fenced block of a page, by the numbers of its lines: those between the fences.
struct Block {
    kind: String,
    first: usize,
    end: usize,
}

fn blocks(lines: &[&str]) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut open: Option<(String, usize)> = None;
    for (number, line) in lines.iter().enumerate() {
        if let Some(kind) = line.strip_prefix("```") {
            open = match open {
                Some((kind, first)) => {
                    blocks.push(Block { kind, first, end: number });
                    None
                }
                None => Some((kind.trim().to_owned(), number + 1)),
            };
        }
    }
    assert!(open.is_none(), "a block is not closed: {open:?}");
    blocks
}

/// Text as it is compared: without trailing blanks and blank lines around.
fn trimmed(text: &str) -> String {
    text.lines().map(str::trim_end).collect::<Vec<_>>().join("\n").trim_matches('\n').to_owned()
}

fn pages() -> Vec<PathBuf> {
    let mut pages: Vec<PathBuf> = std::fs::read_dir(project_root().join("docs"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "md"))
        .collect();
    pages.push(project_root().join("README.md"));
    pages.sort();
    pages
}

/// Runs the blocks of a page; returns the page with what they print, and what differs.
fn run_page(page: &Path) -> (String, Vec<String>) {
    let text = std::fs::read_to_string(page).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let blocks = blocks(&lines);
    let place = |block: &Block| format!("{}:{}", page.file_name().unwrap().display(), block.first);
    let db = Database::new(&format!("docs_{}", page.file_stem().unwrap().display()));
    // What people see: the models that come with the extension answer, not the fixture of the tests.
    db.run(
        "select kronos.set_alias('kronos-default', null);
         select kronos.drop_model(version) from kronos.models where name = 'kronos-fixture'",
    );
    let mut problems = Vec::new();
    let mut updated = String::new();
    let mut copied = 0;
    for (index, block) in blocks.iter().enumerate() {
        if block.kind != "sql" {
            continue;
        }
        let script = lines[block.first..block.end].join("\n") + "\n";
        let printed = trimmed(&db.psql(&script));
        let expected = blocks.get(index + 1).filter(|next| {
            next.kind == "text" && lines[block.end + 1..next.first - 1].iter().all(|line| line.is_empty())
        });
        let Some(expected) = expected else {
            if printed.lines().any(|line| line.starts_with("ERROR:")) {
                problems.push(format!("{} fails:\n{printed}", place(block)));
            }
            continue;
        };
        if trimmed(&lines[expected.first..expected.end].join("\n")) != printed {
            problems.push(format!("{} prints:\n{printed}", place(block)));
        }
        updated.extend(lines[copied..expected.first].iter().flat_map(|line| [line, "\n"]));
        updated.push_str(&printed);
        updated.push('\n');
        copied = expected.end;
    }
    updated.extend(lines[copied..].iter().flat_map(|line| [line, "\n"]));
    (updated, problems)
}

#[test]
fn sql_of_the_documentation_runs_and_prints_what_it_says() {
    let update = std::env::var_os("KRONOS_DOCS_UPDATE").is_some();
    if Database::new("docs_scheduler").value("select kronos.scheduler()") != "none" {
        kronos_skip::skipped("policies have a scheduler here, which the pages do without", "make test");
        return;
    }
    let mut problems = Vec::new();
    for page in pages() {
        let (updated, found) = run_page(&page);
        if update {
            std::fs::write(&page, updated).unwrap();
        } else {
            problems.extend(found);
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n\n"));
}

/// The targets of the links of a page that lead to files of the project.
fn links(page: &Path) -> Vec<PathBuf> {
    let text = std::fs::read_to_string(page).unwrap();
    text.split("](")
        .skip(1)
        .filter_map(|rest| rest.split([')', '#', ' ']).next())
        .filter(|target| !target.is_empty() && !target.contains("://"))
        .map(|target| page.parent().unwrap().join(target))
        .collect()
}

#[test]
fn every_link_of_the_documentation_leads_somewhere_and_every_page_is_found() {
    let readme = project_root().join("README.md");
    let decisions =
        std::fs::read_dir(project_root().join("docs/adr")).unwrap().map(|entry| entry.unwrap().path());
    let all: Vec<PathBuf> = pages().into_iter().chain(decisions).collect();
    let dead: Vec<_> =
        all.iter().flat_map(|page| links(page).into_iter().filter(|target| !target.exists())).collect();
    assert!(dead.is_empty(), "{dead:?}");
    let found = links(&readme);
    let lost: Vec<_> = pages().into_iter().filter(|page| *page != readme && !found.contains(page)).collect();
    assert!(lost.is_empty(), "README.md leads to none of {lost:?}");
}

/// A row after an empty line is the head of a table, or it is no part of any.
#[test]
fn every_row_of_a_table_belongs_to_one() {
    for page in pages() {
        let text = std::fs::read_to_string(&page).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        for (number, pair) in lines.windows(3).enumerate() {
            let begins = pair[0].is_empty() && pair[1].starts_with('|');
            let has_head = pair[2].starts_with('|') && pair[2].chars().all(|c| "|-: ".contains(c));
            assert!(!begins || has_head, "{}:{}: {}", page.display(), number + 2, pair[1]);
        }
    }
}

#[test]
fn the_reference_names_every_function_view_and_setting() {
    let page = std::fs::read_to_string(project_root().join("docs/sql-reference.md")).unwrap();
    let db = Database::new("docs_reference");
    let named = db.rows(
        r"select proname from pg_proc where pronamespace = 'kronos'::regnamespace
         union select relname from pg_class where relnamespace = 'kronos'::regnamespace and relkind = 'v'
         union select name from pg_settings where name like 'kronos.%' order by 1",
    );
    assert!(named.len() > 30, "the catalogue has its objects: {named:?}");
    let mentioned = |name: &str| {
        page.split(|c: char| !(c.is_alphanumeric() || "_.".contains(c))).any(|word| word == name)
    };
    let missing: Vec<_> = named.into_iter().flatten().flatten().filter(|name| !mentioned(name)).collect();
    assert!(missing.is_empty(), "docs/sql-reference.md does not mention {missing:?}");
}
