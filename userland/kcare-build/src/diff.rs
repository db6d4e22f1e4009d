// SPDX-License-Identifier: GPL-2.0

//! The shortest edit script between two sequences (E. W. Myers, "An O(ND) Difference Algorithm", 1986).

/// Most edits that are searched for; memory grows with their square.
const LIMIT: usize = 4000;

/// Pairs of positions of equal elements, ascending; `None` if the two differ in more than 4000 places.
pub fn matches<T: PartialEq>(old: &[T], new: &[T]) -> Option<Vec<(usize, usize)>> {
    let prefix = old.iter().zip(new).take_while(|(a, b)| a == b).count();
    let (mid_old, mid_new) = (&old[prefix..], &new[prefix..]);
    let suffix = mid_old
        .iter()
        .rev()
        .zip(mid_new.iter().rev())
        .take_while(|(a, b)| a == b)
        .count();
    let middle = middle(
        &mid_old[..mid_old.len() - suffix],
        &mid_new[..mid_new.len() - suffix],
    )?;

    let mut out: Vec<(usize, usize)> = (0..prefix).map(|i| (i, i)).collect();
    out.extend(middle.into_iter().map(|(i, j)| (i + prefix, j + prefix)));
    out.extend(
        (0..suffix)
            .rev()
            .map(|i| (old.len() - 1 - i, new.len() - 1 - i)),
    );
    Some(out)
}

fn middle<T: PartialEq>(old: &[T], new: &[T]) -> Option<Vec<(usize, usize)>> {
    // Everything on one side only needs no search.
    if old.is_empty() || new.is_empty() {
        return Some(Vec::new());
    }
    let (n, m) = (old.len() as isize, new.len() as isize);
    let limit = (old.len() + new.len()).min(LIMIT) as isize;
    let at = |k: isize| (k + limit + 1) as usize;
    let mut reach = vec![0isize; 2 * limit as usize + 3];
    let mut trace = Vec::new();
    for d in 0..=limit {
        trace.push(reach[at(-d - 1)..=at(d + 1)].to_vec());
        for k in (-d..=d).step_by(2) {
            let down = k == -d || (k != d && reach[at(k - 1)] < reach[at(k + 1)]);
            let mut x = if down {
                reach[at(k + 1)]
            } else {
                reach[at(k - 1)] + 1
            };
            let mut y = x - k;
            while x < n && y < m && old[x as usize] == new[y as usize] {
                x += 1;
                y += 1;
            }
            reach[at(k)] = x;
            if x >= n && y >= m {
                return Some(walk_back(&trace, n, m));
            }
        }
    }
    None
}

/// Follows the furthest reaches back to the start and collects the diagonals.
fn walk_back(trace: &[Vec<isize>], n: isize, m: isize) -> Vec<(usize, usize)> {
    let (mut x, mut y) = (n, m);
    let mut out = Vec::new();
    for (d, reach) in trace.iter().enumerate().rev() {
        let d = d as isize;
        let of = |k: isize| reach[(k + d + 1) as usize];
        let k = x - y;
        let down = k == -d || (k != d && of(k - 1) < of(k + 1));
        let previous = if down { k + 1 } else { k - 1 };
        let (from_x, from_y) = if d == 0 {
            (0, 0)
        } else {
            (of(previous), of(previous) - previous)
        };
        while x > from_x && y > from_y {
            x -= 1;
            y -= 1;
            out.push((x as usize, y as usize));
        }
        (x, y) = (from_x, from_y);
    }
    out.reverse();
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(old: &str, new: &str) -> String {
        let (old, new): (Vec<char>, Vec<char>) = (old.chars().collect(), new.chars().collect());
        let pairs = matches(&old, &new).unwrap();
        assert!(pairs.windows(2).all(|w| w[0].0 < w[1].0 && w[0].1 < w[1].1));
        pairs
            .into_iter()
            .map(|(i, j)| {
                assert_eq!(old[i], new[j]);
                old[i]
            })
            .collect()
    }

    #[test]
    fn the_longest_common_subsequence_is_found() {
        assert_eq!(text("abcabba", "cbabac").len(), 4);
        assert_eq!(text("", "abc"), "");
        assert_eq!(text("abc", ""), "");
        assert_eq!(text("same", "same"), "same");
        assert_eq!(text("xaybzc", "abc"), "abc");
        assert_eq!(text("abc", "xaybzc"), "abc");
        assert_eq!(text("kitten", "sitting"), "ittn");
        assert_eq!(text("ab", "cd"), "");
    }

    #[test]
    fn too_many_differences_are_told() {
        let old: Vec<u32> = (0..5000).collect();
        let new: Vec<u32> = (5000..10_000).collect();
        assert_eq!(matches(&old, &new), None);
    }
}
