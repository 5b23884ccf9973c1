//! Examples of the libraries: what is public is shown by one.
//!
//! An item counts as shown where its own documentation has an example, or an example elsewhere in its file or of the module above names it:
//! one good example of a module shows how its types and functions go together. Lints see to it that what is `pub` can be reached from outside.
//!
//! For plain data any example of the module will do: the documentation of an API's types is what users read in its definitions, where
//! Rust has no place.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use kthena_tests::setting;
use syn::{Attribute, Expr, ImplItem, Item, Lit, Meta, Visibility};

/// Fails, with all their names, where public items of a library have no example.
pub(super) fn check(library: &str) -> Result<()> {
    let sources = setting::checkout().join(library).join("src");
    let mut files = Vec::new();
    list(&sources, &mut files)?;
    let mut missing = Vec::new();
    for path in files {
        let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        let file = syn::parse_file(&text).with_context(|| format!("parsing {}", path.display()))?;
        let name = path.strip_prefix(&sources).unwrap_or(&path).display();
        let unseen = unshown(&file, &above(&path)?);
        missing.extend(unseen.into_iter().map(|item| format!("{name}: {item}")));
    }
    if !missing.is_empty() {
        bail!("these have no example:\n  {}", missing.join("\n  "));
    }
    Ok(())
}

/// The examples of the module that a file's module is in, where that is a file too.
fn above(path: &Path) -> Result<String> {
    let parent = path.parent().unwrap_or(path).with_extension("rs");
    if !parent.is_file() {
        return Ok(String::new());
    }
    let text = fs::read_to_string(&parent).with_context(|| format!("reading {}", parent.display()))?;
    let file = syn::parse_file(&text).with_context(|| format!("parsing {}", parent.display()))?;
    Ok(examples(&file.attrs))
}

fn list(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("listing {}", folder.display()))? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default();
        if path.is_dir() {
            if name != "tests" {
                list(&path, files)?;
            }
        } else if path.extension().is_some_and(|it| it == "rs") && name != "tests.rs" {
            files.push(path);
        }
    }
    files.sort();
    Ok(())
}

/// A public item.
struct Public<'f> {
    name: String,
    attributes: &'f [Attribute],
}

/// Public items of a file that no example shows.
fn unshown(file: &syn::File, above: &str) -> Vec<String> {
    let mut public = Vec::new();
    let mut code = above.to_owned() + &examples(&file.attrs);
    collect(&file.items, &mut public, &mut code);
    let names: Vec<&str> = code.split(|c: char| !c.is_alphanumeric() && c != '_').collect();
    let unseen = public.iter().filter(|item| {
        // A method is called by the last part of its name.
        let word = item.name.rsplit("::").next().unwrap_or_default();
        let is_shown = names.contains(&word) || is_data(item.attributes) && !code.is_empty();
        examples(item.attributes).is_empty() && !is_shown
    });
    unseen.map(|item| item.name.clone()).collect()
}

fn collect<'f>(items: &'f [Item], public: &mut Vec<Public<'f>>, code: &mut String) {
    for item in items {
        let (visibility, attributes, name) = match item {
            Item::Fn(it) => (&it.vis, &it.attrs, it.sig.ident.to_string()),
            Item::Struct(it) => (&it.vis, &it.attrs, it.ident.to_string()),
            Item::Enum(it) => (&it.vis, &it.attrs, it.ident.to_string()),
            Item::Trait(it) => (&it.vis, &it.attrs, it.ident.to_string()),
            Item::Mod(it) if !is_test(&it.attrs) => {
                let inner = it.content.as_ref().map_or(&[][..], |(_, items)| items);
                collect(inner, public, code);
                continue;
            }
            Item::Impl(it) if it.trait_.is_none() => {
                let name = type_name(&it.self_ty);
                for item in &it.items {
                    let ImplItem::Fn(method) = item else { continue };
                    *code += &examples(&method.attrs);
                    if matches!(method.vis, Visibility::Public(_)) {
                        public.push(Public {
                            name: format!("{name}::{}", method.sig.ident),
                            attributes: &method.attrs,
                        });
                    }
                }
                continue;
            }
            _ => continue,
        };
        *code += &examples(attributes);
        if matches!(visibility, Visibility::Public(_)) && !is_test(attributes) {
            public.push(Public { name, attributes });
        }
    }
}

fn type_name(of: &syn::Type) -> String {
    match of {
        syn::Type::Path(path) => path.path.segments.last().map(|it| it.ident.to_string()),
        _ => None,
    }
    .unwrap_or_default()
}

/// Whether a type is read from an object of the API.
fn is_data(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|it| match &it.meta {
        Meta::List(list) if it.path().is_ident("derive") => list.tokens.to_string().contains("Deserialize"),
        _ => false,
    })
}

fn is_test(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|it| match &it.meta {
        Meta::List(list) => {
            it.path().is_ident("cfg") && matches!(list.tokens.to_string().as_str(), "test" | "doctest")
        }
        _ => false,
    })
}

/// The code of the examples in a documentation.
fn examples(attributes: &[Attribute]) -> String {
    let mut code = String::new();
    let mut is_code = false;
    for attribute in attributes {
        let Meta::NameValue(meta) = &attribute.meta else {
            continue;
        };
        let Expr::Lit(text) = &meta.value else { continue };
        let (true, Lit::Str(text)) = (meta.path.is_ident("doc"), &text.lit) else {
            continue;
        };
        let line = text.value();
        if let Some(kind) = line.trim().strip_prefix("```") {
            // Pictures are no examples.
            is_code = !is_code && kind != "text";
        } else if is_code {
            code.push_str(&line);
            code.push('\n');
        }
    }
    code
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(source: &str, expected: &[&str]) {
        assert_eq!(unshown(&syn::parse_str(source).unwrap(), ""), expected);
    }

    #[test]
    fn an_item_is_shown_by_its_own_example_or_one_that_names_it() {
        check(
            "/// ```\n/// let x = 1;\n/// ```\npub fn a() {}\npub fn b() {}",
            &["b"],
        );
        check(
            "//! ```\n//! b(S::new());\n//! ```\npub fn a() {}\npub fn b() {}\npub struct S;",
            &["a"],
        );
        check("//! ```text\n//! a\n//! ```\npub fn a() {}", &["a"]);
        check("//! ```\n//! ```\n//! a\npub fn a() {}", &["a"]);
    }

    #[test]
    fn data_is_shown_by_any_example_of_its_module() {
        let data = "#[derive(Debug, Deserialize)]\npub struct S;";
        check(data, &["S"]);
        check(&format!("//! ```\n//! let x = 1;\n//! ```\n{data}"), &[]);
        let file = syn::parse_str("pub fn a() {}").unwrap();
        assert!(unshown(&file, "a();").is_empty(), "the module above shows it");
    }

    #[test]
    fn methods_count_and_what_is_private_does_not() {
        check(
            "pub struct S;\nimpl S { pub fn a(&self) {} fn b(&self) {} }",
            &["S", "S::a"],
        );
        check("fn a() {}\npub(crate) struct S;", &[]);
        check("#[cfg(test)]\nmod tests { pub fn a() {} }", &[]);
        check("pub mod inner { pub enum E {} }", &["E"]);
        check(
            "pub struct S;\nimpl Clone for S { fn clone(&self) -> S { S } }",
            &["S"],
        );
    }
}
