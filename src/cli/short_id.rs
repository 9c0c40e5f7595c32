//! Which one is meant by the first digits of an id? People copy what fits on a line.

use std::fmt::Display;

use anyhow::bail;

use super::Usage;

/// Fewer fit too much, and a slip of the keyboard must end nothing.
const FEWEST: usize = 4;

/// The one of `all` whose id begins so; each comes with what it is, for whoever has to choose.
pub(super) fn find<T: Copy + Display>(
    given: &str,
    all: impl Iterator<Item = (T, String)>,
    what: &str,
) -> anyhow::Result<T> {
    let begins = |id: &T| id.to_string().get(..given.len()).is_some_and(|start| start.eq_ignore_ascii_case(given));
    if !given.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-') {
        return Err(Usage(format!("{given:?} is no id of a {what}, nor the first digits of one")).into());
    }
    if given.len() < FEWEST {
        let why = format!("{given:?} is too short: give the first {FEWEST} digits of the id at least");
        return Err(Usage(why).into());
    }
    let found: Vec<(T, String)> = all.filter(|(id, _)| begins(id)).collect();
    match found.as_slice() {
        [(id, _)] => Ok(*id),
        [] => bail!("the id of no {what} begins with {given:?}"),
        many => {
            let list: String = many.iter().map(|(id, about)| format!("\n  {id}  {about}")).collect();
            bail!("{} ids begin with {given:?}; give more digits of the one that is meant:{list}", many.len())
        }
    }
}
