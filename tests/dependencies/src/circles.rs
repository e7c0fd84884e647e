//! Circles between the modules of a crate: files that take names of each other, directly or through others.
//!
//! Arrows are read from the text: from `use` and from paths, and a name that is passed on is followed to the module that
//! defines it, so that passing on hides no circle. A module contains those in its folder; what it takes of them is no arrow.
//! What only tests take is none either.

use crate::tokens::{is_name, tokens, without_tests};
use std::collections::{BTreeMap, BTreeSet};
use std::{fs, io, path::Path};

/// The place of a module in its crate; empty for the root.
pub type Place = Vec<String>;

/// The modules of a crate by their places: the text of each.
pub type Sources = BTreeMap<Place, String>;

/// Names that one module takes of another.
type Arrows = BTreeMap<Place, BTreeMap<Place, BTreeSet<String>>>;

/// Reads the sources of the crate in a folder. Its `main.rs` beside a `lib.rs` is a crate of its own, of which nobody takes
/// anything.
///
/// # Errors
/// What the file system says.
pub fn sources(folder: &Path) -> io::Result<Sources> {
    let mut found = Sources::new();
    read(&folder.join("src"), &mut Vec::new(), &mut found)?;
    Ok(found)
}

fn read(folder: &Path, place: &mut Place, found: &mut Sources) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() {
            place.push(stem);
            read(&path, place, found)?;
            place.pop();
        } else if path.extension().is_some_and(|extension| extension == "rs") && stem != "tests" {
            let mut own = place.clone();
            match stem.as_str() {
                "main" if place.is_empty() && folder.join("lib.rs").exists() => continue,
                "lib" | "main" if place.is_empty() => {}
                "mod" => {}
                _ => own.push(stem),
            }
            found.insert(own, fs::read_to_string(&path)?);
        }
    }
    Ok(())
}

/// The circles, each as a line for every arrow in it.
pub fn circles(sources: &Sources) -> Vec<Vec<String>> {
    let modules: Modules = sources.iter().map(|(place, text)| (place.clone(), Module::of(text))).collect();
    let arrows: Arrows =
        modules.iter().map(|(place, module)| (place.clone(), taken(&modules, place, module))).collect();
    let reached: BTreeMap<&Place, BTreeSet<&Place>> =
        arrows.keys().map(|place| (place, reached_from(place, &arrows))).collect();
    let mut circles = Vec::new();
    let mut told: BTreeSet<&Place> = BTreeSet::new();
    for place in arrows.keys() {
        let circle: BTreeSet<&Place> =
            reached[place].iter().copied().filter(|other| reached[other].contains(place)).collect();
        if told.contains(place) || circle.is_empty() {
            continue;
        }
        let lines = circle.iter().flat_map(|from| {
            let inside = arrows[*from].iter().filter(|(to, _)| circle.contains(to));
            inside.map(|(to, names)| {
                let names: Vec<&str> = names.iter().map(String::as_str).collect();
                format!("{} takes of {}: {}", spelt(from), spelt(to), names.join(", "))
            })
        });
        circles.push(lines.collect());
        told.extend(circle);
    }
    circles
}

fn spelt(place: &Place) -> String {
    if place.is_empty() { "the root".into() } else { place.join("::") }
}

/// What can be reached along arrows; the start itself only on a circle.
fn reached_from<'a>(start: &Place, arrows: &'a Arrows) -> BTreeSet<&'a Place> {
    let mut reached = BTreeSet::new();
    let mut ends: Vec<&Place> = arrows[start].keys().collect();
    while let Some(end) = ends.pop() {
        if reached.insert(end) {
            ends.extend(arrows[end].keys());
        }
    }
    reached
}

type Modules = BTreeMap<Place, Module>;

/// What one file says.
#[derive(Default)]
struct Module {
    /// Names that `use` brings in, each with the path it stands for.
    imported: Vec<(String, Vec<String>)>,
    /// Every other path of more than one part.
    paths: Vec<Vec<String>>,
    /// Names that the file defines.
    defined: BTreeSet<String>,
}

impl Module {
    fn of(text: &str) -> Self {
        let tokens = without_tests(tokens(text));
        let mut module = Self::default();
        let mut at = 0;
        while let Some(token) = tokens.get(at) {
            let next = tokens.get(at + 1).map(String::as_str);
            match token.as_str() {
                // `use<'a>` in a type captures; it brings nothing in.
                "use" if next != Some("<") => {
                    at = import(&tokens, at + 1, &[], &mut module.imported);
                    continue;
                }
                "fn" | "struct" | "enum" | "union" | "trait" | "type" | "const" | "static" => {
                    module.defined.extend(next.map(str::to_owned));
                }
                name if is_name(name) && next == Some("::") => {
                    let mut path = vec![name.to_owned()];
                    while tokens.get(at + 1).is_some_and(|token| token == "::")
                        && let Some(part) = tokens.get(at + 2).filter(|part| is_name(part))
                    {
                        path.push(part.clone());
                        at += 2;
                    }
                    module.paths.push(path);
                }
                _ => {}
            }
            at += 1;
        }
        module
    }
}

/// The names that the module at `place` takes of others, by module.
fn taken(modules: &Modules, place: &Place, module: &Module) -> BTreeMap<Place, BTreeSet<String>> {
    let mut taken: BTreeMap<Place, BTreeSet<String>> = BTreeMap::new();
    for path in module.imported.iter().map(|(_, path)| path).chain(&module.paths) {
        if let Some(other) = home(modules, place, path, &mut BTreeSet::new())
            && !other.starts_with(place)
        {
            taken.entry(other).or_default().extend(path.last().cloned());
        }
    }
    taken
}

/// The module that defines what `path`, written at `place`, stands for; `None` for what is of another crate.
fn home(
    modules: &Modules,
    place: &Place,
    path: &[String],
    seen: &mut BTreeSet<(Place, String)>,
) -> Option<Place> {
    let mut whole = place.clone();
    let mut rest = path;
    match path.first()?.as_str() {
        "crate" => {
            whole.clear();
            rest = &path[1..];
        }
        "self" => rest = &path[1..],
        _ => {
            while rest.first().is_some_and(|part| part == "super") {
                whole.pop();
                rest = &rest[1..];
            }
        }
    }
    while let Some(part) = rest.first() {
        whole.push(part.clone());
        if !modules.contains_key(&whole) {
            whole.pop();
            break;
        }
        rest = &rest[1..];
    }
    let (Some(name), Some(module)) = (rest.first(), modules.get(&whole)) else { return Some(whole) };
    if name == "*" || module.defined.contains(name) {
        return Some(whole);
    }
    match module.imported.iter().find(|(own, _)| own == name) {
        Some((_, path)) if seen.insert((whole.clone(), name.clone())) => {
            let path: Vec<String> = path.iter().chain(&rest[1..]).cloned().collect();
            home(modules, &whole, &path, seen)
        }
        Some(_) => None,
        // A name that the file at hand neither defines nor brings in is that of another crate.
        None if whole == *place => None,
        None => Some(whole),
    }
}

/// Reads the tree of a `use` from `at` on; gives the place after it.
fn import(
    tokens: &[String],
    mut at: usize,
    before: &[String],
    imported: &mut Vec<(String, Vec<String>)>,
) -> usize {
    let mut path = before.to_vec();
    while let Some(token) = tokens.get(at) {
        match token.as_str() {
            "::" => at += 1,
            "{" => {
                at += 1;
                while tokens.get(at).is_some_and(|token| token != "}") {
                    at = import(tokens, at, &path, imported);
                    at += usize::from(tokens.get(at).is_some_and(|token| token == ","));
                }
                return at + 1;
            }
            "," | "}" | ";" => break,
            "as" => {
                imported.extend(tokens.get(at + 1).map(|name| (name.clone(), path)));
                return at + 2;
            }
            "self" if !path.is_empty() => at += 1,
            part => {
                path.push(part.to_owned());
                at += 1;
            }
        }
    }
    imported.extend(path.last().cloned().map(|name| (name, path)));
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(files: &[(&str, &str)]) -> Vec<Vec<String>> {
        let place =
            |name: &str| name.split("::").filter(|part| !part.is_empty()).map(str::to_owned).collect();
        circles(&files.iter().map(|(name, text)| (place(name), (*text).to_owned())).collect())
    }

    #[test]
    fn files_that_take_names_of_each_other_are_a_circle() {
        let two = found(&[
            ("", "mod a; mod b; mod c;"),
            ("a", "use crate::b::{self, f as g, deep::{T}}; use std::fmt; struct S;"),
            ("b", "pub fn f(s: &super::a::S) {}"),
            ("c", "use crate::a::S;"),
        ]);
        assert_eq!(two, [["a takes of b: T, b, f", "b takes of a: S"]]);
        let three = found(&[
            ("a", "use super::b::B; pub struct A;"),
            ("b", "pub struct B(crate::c::C);"),
            ("c", "use crate::a::A; pub struct C;"),
        ]);
        assert_eq!(three, [["a takes of b: B", "b takes of c: C", "c takes of a: A"]]);
        let captures = "use crate::b::B; fn f() -> impl Sized + use<> { let B { x, .. } = b(); x }";
        assert!(found(&[("a", captures), ("b", "pub struct B;")]).is_empty());
        assert!(found(&[("a", "use crate::b::B;"), ("b", "pub struct B;")]).is_empty());
    }

    #[test]
    fn a_name_that_is_passed_on_hides_no_circle() {
        let hidden = found(&[
            ("", "mod a; mod b; pub use a::{A as Named, x};"),
            ("a", "use crate::b::B; pub struct A;"),
            ("b", "use crate::Named; pub struct B;"),
        ]);
        assert_eq!(hidden, [["a takes of b: B", "b takes of a: Named"]]);
    }

    #[test]
    fn a_module_contains_those_in_its_folder() {
        let folder = [
            ("m", "mod part; pub use part::f; pub struct S; fn g() { part::f() }"),
            ("m::part", "use super::S;"),
        ];
        assert!(found(&folder).is_empty());
        let around = [
            folder[0],
            ("m::part", "use crate::other::O; pub fn f() {}"),
            ("other", "use crate::m::f; struct O;"),
        ];
        assert_eq!(found(&around), [["m::part takes of other: O", "other takes of m::part: f"]]);
    }

    #[test]
    fn tests_comments_and_literals_take_nothing() {
        let quiet = r##"
            // use crate::b::B;
            /* crate::b::B */
            pub struct A<'a>(&'a str);
            const TEXT: [&str; 3] = ["\" crate::b::B", r#"" crate::b::B"#, "'"];
            const QUOTE: [char; 2] = ['"', '\''];
            #[cfg(test)]
            use crate::b::B;
            #[cfg(test)]
            mod tests { use crate::b::B; fn f() { if true {} } }
        "##;
        assert!(found(&[("a", quiet), ("b", "use crate::a::A; struct B;")]).is_empty());
        let loud = format!("{quiet} fn g(b: crate::b::B) {{}}");
        assert_eq!(found(&[("a", &loud), ("b", "use crate::a::A; struct B;")]).len(), 1);
    }
}
