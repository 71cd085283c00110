//! `rebar3 tar`, and what its package must hold.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::{
    super::{Error, Package, Project, Store},
    command::{Log, Step, run},
    recipe::Recipe,
    staging::{blocking, profile_dir, remove},
};

/// A package, and how it came about.
pub(super) struct Made {
    pub package: Package,
    /// What it was made of, if that is known.
    pub recipe: Option<Recipe>,
    /// It was made before, of the very same.
    pub reused: bool,
}

/// The package of a build with this recipe in `base`, or else one that was shipped.
pub(super) async fn known(
    project: &Project,
    base: &Path,
    store: Option<Store>,
    recipe: &Recipe,
) -> Result<Option<Package>, Error> {
    let releases = base.join(profile_dir(&project.profile)).join("rel").join(&project.name);
    let (project, recipe) = (project.clone(), recipe.clone());
    blocking(move || {
        let archive = find(&project, &releases).ok();
        let built = archive.and_then(|archive| recipe.known(&archive));
        Ok(built.or_else(|| recipe.shipped(store.as_ref()?, &project)))
    })
    .await
}

/// Builds the fat package of the project's sources with `base` as rebar3's base directory, unless that was done before or,
/// given a `store`, it was shipped. Dependencies that are already compiled there are used again, the project's applications
/// and releases are not.
pub(super) async fn build(
    project: &Project,
    base: &Path,
    store: Option<Store>,
    log: Log<'_>,
) -> Result<Made, Error> {
    if let Some(how) = &project.mix {
        let package = super::mix::build(project, how, base, log).await?;
        return Ok(Made { package, recipe: None, reused: false });
    }
    let recipe = Recipe::of(project).await;
    if let Some(recipe) = &recipe
        && let Some(package) = known(project, base, store, recipe).await?
    {
        log(&format!("the package {} is of the same sources and tools", package.path.display()));
        return Ok(Made { package, recipe: Some(recipe.clone()), reused: true });
    }
    let package = make(project, base, log).await?;
    // what changed while it was compiled may be in it or not
    let recipe = match recipe {
        Some(recipe) => Recipe::of(project).await.filter(|now| *now == recipe),
        None => None,
    };
    if let Some(recipe) = &recipe {
        recipe.mark(&package)?;
    }
    Ok(Made { package, recipe, reused: false })
}

async fn make(project: &Project, base: &Path, log: Log<'_>) -> Result<Package, Error> {
    let profile = base.join(profile_dir(&project.profile));
    clean(project, base, &profile)?;
    let mut args = Vec::new();
    if project.profile != "default" {
        args.extend(["as".to_owned(), project.profile.clone()]);
    }
    args.push("tar".to_owned());
    let env = vec![("REBAR_BASE_DIR", base.as_os_str().to_owned())];
    run(Step { program: "rebar3", args, dir: &project.dir, env, input: String::new() }, log).await?;
    let releases = profile.join("rel").join(&project.name);
    let project = project.clone();
    blocking(move || {
        let package = Package::read(&find(&project, &releases)?)?;
        complete(&project, &package)?;
        Ok(package)
    })
    .await
}

/// Old appups, modules of deleted sources and scripts of other versions would end up in the package.
fn clean(project: &Project, base: &Path, profile: &Path) -> Result<(), Error> {
    remove(&profile.join("rel"))?;
    for app in &project.apps {
        remove(&profile.join("lib").join(&app.name))?;
        remove(&base.join("default/lib").join(&app.name))?;
    }
    Ok(())
}

fn find(project: &Project, releases: &Path) -> Result<PathBuf, Error> {
    let expected = releases.join(format!("{}-{}.tar.gz", project.name, project.version));
    if expected.is_file() {
        return Ok(expected);
    }
    let entries = fs::read_dir(releases).into_iter().flatten().flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let built: Vec<String> =
        names.filter(|name| name.ends_with(".tar.gz")).map(|n| format!("`{n}`")).collect();
    let built = if built.is_empty() { "no package".to_owned() } else { built.join(", ") };
    Err(Error::Project(format!(
        "`rebar.config` says release `{}` `{}`, but rebar3 built {built}; does `rebar.config.script` change the \
         release? write its name and version in `rebar.config`",
        project.name, project.version
    )))
}

fn complete(project: &Project, package: &Package) -> Result<(), Error> {
    let place = match &*project.profile {
        "default" => "`relx` of `rebar.config`".to_owned(),
        profile => format!("`relx` of the profile `{profile}` in `rebar.config`"),
    };
    let kernel = package.rel.apps.iter().find(|(name, _)| name == "kernel");
    let (missing, setting) = if !package.has_erts() {
        (format!("the Erlang runtime system `erts-{}`", package.rel.erts), "include_erts")
    } else if !kernel.is_some_and(|app| package.has_app(app)) {
        ("Erlang's own libraries".to_owned(), "system_libs")
    } else {
        return Ok(());
    };
    Err(Error::Project(format!(
        "the package of `{}` `{}` lacks {missing}: set `{{{setting}, true}}` in {place} and check that \
         `rebar.config.script` does not set it to false; the thin package for an upgrade is made from the whole \
         one by itself, `RELUP_TAR` is not needed",
        project.name, project.version
    )))
}
