//! A pocker's step as an image: which steps make layers, and which of those have to be made.

use super::error::CliError;
use super::watched::{Watched, reason};
use crate::control::api::{PockerInfo, StepInfo};
use crate::control::images::{LayerOf, Noted, REPOSITORIES_MAX};
use crate::control::{Client, ClientError};
use crate::image::write::{About, FORM, Layer, Made, Stager};
use std::path::Path;

pub const LATEST: &str = "latest";

/// More than this many layers no tool lays on one another: the first steps then share one.
const LAYERS_MAX: usize = 120;

/// Of each step the tree to make a layer of, and the one that it lies on; none where it makes none.
fn layers(steps: &[StepInfo], squash: bool) -> Vec<Option<(&str, Option<&str>)>> {
    let mut below = None;
    let mut layers: Vec<_> = steps
        .iter()
        .map(|step| {
            let tree = step.snapshot.as_str();
            let layer = (below != Some(tree)).then_some((tree, below));
            below = Some(tree);
            layer
        })
        .collect();
    let many = layers.iter().flatten().count();
    let most = if squash { 1 } else { LAYERS_MAX };
    // The last of those that share one has it, made of nothing.
    let mut shared = (many + 1).saturating_sub(most);
    for layer in layers.iter_mut().filter(|layer| layer.is_some()) {
        match shared {
            0 => break,
            1 => *layer = layer.map(|(tree, _)| (tree, None)),
            _ => *layer = None,
        }
        shared -= 1;
    }
    layers
}

/// An image, and what each layer of it was made of.
pub struct Imaged<'a> {
    pub made: Made,
    pub of: Vec<(LayerOf<'a>, Noted)>,
}

/// The layers are at that place now, from where the registry can give them to others.
pub fn is_at(of: Vec<(LayerOf<'_>, Noted)>, client: &Client, place: &str) {
    for (of, mut noted) in of {
        if noted
            .repositories
            .first()
            .is_some_and(|first| first == place)
        {
            continue;
        }
        noted.repositories.retain(|other| other != place);
        noted.repositories.insert(0, place.to_owned());
        noted.repositories.truncate(REPOSITORIES_MAX);
        note(client, &of, &noted);
    }
}

/// Without it the layer is made again, no more: whoever may not write to the store can push.
fn note(client: &Client, of: &LayerOf<'_>, noted: &Noted) {
    let _ = client.note_layer(of, noted);
}

/// A pocker's step as an image. Its layers are put aside in `dir`, but for those that were made before and
/// that are `there`.
pub fn image<'a>(
    client: &Client,
    pocker: &'a PockerInfo,
    step: &StepInfo,
    (tag, squash): (&str, bool),
    dir: &Path,
    mut there: impl FnMut(&Noted) -> Result<bool, CliError>,
) -> Result<Imaged<'a>, CliError> {
    let fail = |e| {
        CliError::from_error(
            format!("cannot put the image aside in {}", dir.display()),
            &e,
        )
    };
    let upto = pocker.steps.iter().position(|s| s.key == step.key);
    let steps = &pocker.steps[..=upto.unwrap_or_default()];
    let (mut made, mut all) = (Vec::new(), Vec::new());
    let mut history = Vec::new();
    for (step, layer) in steps.iter().zip(layers(steps, squash)) {
        history.push((step.instruction.as_str(), layer.is_some()));
        let Some((tree, below)) = layer else {
            continue;
        };
        let form = FORM;
        let of = LayerOf { tree, below, form };
        let noted = client.noted_layer(&of)?;
        if let Some(noted) = &noted
            && there(noted)?
        {
            let Noted {
                digest, diff_id, ..
            } = noted.clone();
            made.push(Layer::there(digest, noted.size, diff_id));
            all.push((of, noted.clone()));
            continue;
        }
        let mut stager = Stager::new(dir).map_err(fail)?;
        let written = client.export_layer(tree, below, &mut Watched::new(&mut stager));
        reason(written.map_err(|e| match e {
            ClientError::Archive(e) => fail(e),
            other => other.into(),
        }))?;
        let layer = stager.finish().map_err(fail)?;
        let made_so = |noted: &Noted| {
            (&noted.digest, noted.size, &noted.diff_id)
                == (&layer.digest, layer.size, &layer.diff_id)
        };
        let new = noted.filter(made_so);
        let new = new.unwrap_or_else(|| {
            let new = Noted {
                digest: layer.digest.clone(),
                size: layer.size,
                diff_id: layer.diff_id.clone(),
                repositories: Vec::new(),
            };
            note(client, &of, &new);
            new
        });
        made.push(layer);
        all.push((of, new));
    }
    let about = About {
        name: &pocker.name,
        tag,
        run: &pocker.config,
        history: &history,
    };
    let made = Made::new(made, &about).map_err(fail)?;
    Ok(Imaged { made, of: all })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn steps(trees: &[&str]) -> Vec<StepInfo> {
        let step = |(at, tree): (usize, &&str)| StepInfo {
            key: at.to_string(),
            snapshot: (*tree).to_owned(),
            parent: None,
            instruction: String::new(),
            created: 0,
            nodes: 0,
            bytes: 0,
            upstream: None,
        };
        trees.iter().enumerate().map(step).collect()
    }

    #[test]
    fn a_step_is_a_layer_unless_it_made_nothing() {
        let steps = steps(&["a", "a", "b", "c", "c", "a"]);
        let of = |squash| layers(&steps, squash);
        let each = [
            Some(("a", None)),
            None,
            Some(("b", Some("a"))),
            Some(("c", Some("b"))),
            None,
            Some(("a", Some("c"))),
        ];
        assert_eq!(of(false), each);
        assert_eq!(of(true), [None, None, None, None, None, Some(("a", None))]);
    }

    #[test]
    fn the_first_of_very_many_steps_share_a_layer() {
        let trees: Vec<String> = (0..LAYERS_MAX + 3).map(|n| n.to_string()).collect();
        let trees: Vec<&str> = trees.iter().map(String::as_str).collect();
        let steps = steps(&trees);
        let made = layers(&steps, false);
        assert_eq!(made[..3], [None; 3]);
        assert_eq!(made[3], Some(("3", None)));
        assert_eq!(made[4], Some(("4", Some("3"))));
        assert_eq!(made.iter().flatten().count(), LAYERS_MAX);
        assert_eq!(layers(&steps[..LAYERS_MAX], false)[0], Some(("0", None)));
        assert_eq!(
            layers(&steps[..LAYERS_MAX], false)[1],
            Some(("1", Some("0")))
        );
    }
}
