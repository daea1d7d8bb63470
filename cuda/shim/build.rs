//! Compiles the CUDA sources for the CPU: each kernel file as it is, and once per planted bug.
//!
//! A planted bug is a piece of the source replaced by another (the piece must occur exactly once, so
//! a bug that no longer applies breaks the build instead of testing nothing), or a macro defined.
//! Without a C++ compiler that knows `-fsanitize=thread` the crate is empty and says so.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs};

/// One compilation of one source. An empty variant is the source itself. `kernels` are those that the variant
/// changes.
struct Unit {
    source: &'static str,
    kernels: &'static [&'static str],
    variant: &'static str,
    replace: Option<(&'static str, &'static str)>,
    define: Option<&'static str>,
}

const APPLY: &str = "../kernels/apply_mask.cu";
const APPLY_KERNELS: &[&str] = &["apply_mask_f32", "apply_mask_f16", "apply_mask_bf16"];
const RACE: &str = "../kernels/race.cu";
const RACE_KERNELS: &[&str] = &[
    "race_1_f32",
    "race_1_f16",
    "race_1_bf16",
    "race_8_f32",
    "race_8_f16",
    "race_8_bf16",
    "race_merge",
];
/// Faults of the race are compiled for these alone: a variant of all would take minutes.
const RACE_FEW: &[&str] = &["race_1_f32", "race_8_bf16", "race_merge"];
const CDF: &str = "../kernels/cdf.cu";
const CDF_KERNELS: &[&str] = &[
    "cdf_weigh_f32",
    "cdf_weigh_f16",
    "cdf_weigh_bf16",
    "cdf_pick_f32",
    "cdf_pick_f16",
    "cdf_pick_bf16",
    "cdf_floor_f32",
    "cdf_floor_f16",
    "cdf_floor_bf16",
    "cdf_score_f32",
    "cdf_score_f16",
    "cdf_score_bf16",
];
const CDF_FEW: &[&str] = &["cdf_weigh_bf16", "cdf_pick_bf16", "cdf_floor_bf16", "cdf_score_bf16"];
const STAT: &str = "../kernels/row_stat.cu";
const STAT_KERNELS: &[&str] = &["row_stat_f32", "row_stat_f16", "row_stat_bf16", "row_stat_merge"];
const STAT_FEW: &[&str] = &["row_stat_bf16", "row_stat_merge"];
const TREE: &str = "../kernels/tree.cu";
const TREE_KERNELS: &[&str] = &["tree_walk", "tree_mask", "tree_pack"];
const REJECT: &str = "../kernels/reject.cu";
const REJECT_KERNELS: &[&str] = &["reject_chains_f32", "reject_chains_f16", "reject_chains_bf16"];
const REJECT_FEW: &[&str] = &["reject_chains_bf16"];
const SELF: &str = "cpp/selftest.cu";
const SELF_KERNELS: &[&str] = &["block_sum", "shuffle_sum", "rotate", "histogram"];

const fn apply(variant: &'static str, from: &'static str, to: &'static str) -> Unit {
    let replace = Some((from, to));
    Unit { source: APPLY, kernels: APPLY_KERNELS, variant, replace, define: None }
}

const fn race(variant: &'static str, from: &'static str, to: &'static str) -> Unit {
    let replace = Some((from, to));
    Unit { source: RACE, kernels: RACE_FEW, variant, replace, define: None }
}

const fn cdf(variant: &'static str, from: &'static str, to: &'static str) -> Unit {
    let replace = Some((from, to));
    Unit { source: CDF, kernels: CDF_FEW, variant, replace, define: None }
}

const fn stat(variant: &'static str, from: &'static str, to: &'static str) -> Unit {
    let replace = Some((from, to));
    Unit { source: STAT, kernels: STAT_FEW, variant, replace, define: None }
}

const fn tree(variant: &'static str, from: &'static str, to: &'static str) -> Unit {
    let replace = Some((from, to));
    Unit { source: TREE, kernels: TREE_KERNELS, variant, replace, define: None }
}

const fn reject(variant: &'static str, from: &'static str, to: &'static str) -> Unit {
    let replace = Some((from, to));
    Unit { source: REJECT, kernels: REJECT_FEW, variant, replace, define: None }
}

const fn whole(source: &'static str, kernels: &'static [&'static str]) -> Unit {
    Unit { source, kernels, variant: "", replace: None, define: None }
}

const fn selftest(
    variant: &'static str,
    kernels: &'static [&'static str],
    replace: Option<(&'static str, &'static str)>,
    define: Option<&'static str>,
) -> Unit {
    Unit { source: SELF, kernels, variant, replace, define }
}

const UNITS: &[Unit] = &[
    whole(APPLY, APPLY_KERNELS),
    apply("tail_dropped", "(vocab + PER - 1u) / PER", "vocab / PER"),
    apply("tail_overrun", "vocab - first < PER ? vocab - first : PER", "PER"),
    apply("tail_off_by_one", "i < count &&", "i + 1 < count &&"),
    apply("wrong_lane", "word >> (first & 31u)", "word >> (first & 15u)"),
    apply("mirrored_bits", "((allowed >> i) & 1u)", "((allowed >> (PER - 1u - i)) & 1u)"),
    apply("mask_overrun", "w < mask_words ? words[w] : 0u", "words[w]"),
    apply("beyond_mask_allowed", "words[w] : 0u", "words[w] : 0xFFFFFFFFu"),
    apply("mask_rows_shifted", "(u64)r * mask_words", "(u64)r * (mask_words + 1u)"),
    apply("indices_ignored", "target = (u32)row_indices[r];", ""),
    apply("stray_index", "target >= logits_rows", "false"),
    apply("stride_ignored", "(u64)target * stride", "(u64)target * vocab"),
    apply("unaligned_store", "count == PER && aligned", "count == PER"),
    apply("wrong_infinity", "u16, 0xFF80u, 0xFF80FF80u", "u16, 0xFC00u, 0xFC00FC00u"),
    apply("second_row_lost", "r += gridDim.y", "r = rows"),
    whole(RACE, RACE_KERNELS),
    race("noise_of_the_row", "(first + j) >> 2, p.index", "(first + j) >> 2, r"),
    race("branch_ignored", "p.index, p.branch)", "p.index, 0u)"),
    race("noise_lanes_turned", "noise[i], first + j + i", "noise[3u - i], first + j + i"),
    race("temperature_ignored", "x[i] : x[i] * p.factor", "x[i] : x[i]"),
    race(
        "greedy_with_noise",
        "p.factor == 0.0f\n                                    ?",
        "false\n                                    ?",
    ),
    race("ties_to_the_highest", "(u64)(~token);", "(u64)(token ^ 0xFFFFF000u);"),
    race("bound_too_tight", "top + GUMBEL_MAX < bound", "top + 2.0f < bound"),
    race("tail_overrun", "left < G ? left : G", "G"),
    race("mask_ignored", "&& ((allowed >> i) & 1u) != 0u;", ";"),
    race("tile_not_cleared", "seen[i] = 0u;", ""),
    race(
        "cleared_too_late",
        "seen[i] = 0u;\n                    }\n                    __syncthreads();",
        "seen[i] = 0u;\n                    }\n",
    ),
    race(
        "set_too_late",
        "                    }\n                    __syncthreads();\n                }\n                for",
        "                    }\n                }\n                for",
    ),
    race(
        "plain_or",
        "atomicOr(&seen[at >> 5], 1u << (at & 31u));",
        "seen[at >> 5] |= 1u << (at & 31u);",
    ),
    race("every_count_one", "(float)count * frequency", "1.0f * frequency"),
    race("flag_ignored", " && (word & NOT_REPEATED) == 0u", ""),
    race("flag_counted", "count = word & ~NOT_REPEATED", "count = word"),
    race("present_though_absent", "count != 0u && (frequency", "(frequency"),
    race("floor_ignored", "floor != 0 && x[i]", "false && x[i]"),
    race("floor_of_another", "0 : floors[r]", "0 : floors[0]"),
    race("penalty_sign", "z < 0.0f ? z * repetition : z / repetition", "z / repetition"),
    race("second_tile_lost", "tile += (u64)gridDim.x * TILE", "tile += vocab"),
    race("flags_of_one_warp", "wrong |= flags[w];", ""),
    race(
        "heads_reused",
        "        __syncthreads();  // heads are read before the next round writes them",
        "",
    ),
    race("winner_kept", "            best.pop();", ""),
    race("nan_runs", "wrong |= is_bad(x[i]) ? STATUS_BAD : 0u;", ""),
    race("stray_index", "if (source < logits_rows)", "if (true)"),
    whole(CDF, CDF_KERNELS),
    cdf("other_noise", "p.branch, PURPOSE_CDF, 0u)", "p.branch, PURPOSE_RACE, 0u)"),
    cdf("a_block_late", "before + m > target", "before > target"),
    cdf(
        "tail_overrun",
        "token < vocab ? row.at(token, p, wrong) : neg_infinity()",
        "row.at(token, p, wrong)",
    ),
    cdf(
        "a_block_lost",
        "b < blocks; b += gridDim.x * WEIGH_WARPS",
        "b + 1u < blocks; b += gridDim.x * WEIGH_WARPS",
    ),
    cdf(
        "sum_of_half",
        "for (int d = 16; d > 0; d >>= 1) {\n        sum +=",
        "for (int d = 8; d > 0; d >>= 1) {\n        sum +=",
    ),
    cdf(
        "factor_of_block_lost",
        "parts[b].sum * (double)weight(parts[b].top - max)",
        "parts[b].sum",
    ),
    cdf("factor_of_token_lost", "cumulative += (double)wl * factor", "cumulative += (double)wl"),
    cdf("starts_at_zero", "double cumulative = before;", "double cumulative = 0.0;"),
    cdf("greedy_draws", "                if (p.factor == 0.0f) {", "                if (false) {"),
    cdf("penalties_ignored", "seen_begin < seen_end &&", "false &&"),
    cdf("mask_ignored", "mask != nullptr && (w >=", "false && (w >="),
    cdf("temperature_ignored", "x : x * p.factor;", "x : x;"),
    cdf("floor_ignored", "floor != 0 && x[j]", "false && x[j]"),
    cdf(
        "removed_token_scored",
        "floor != 0 && pack(x, token) < floor ? neg_infinity()",
        "false ? neg_infinity()",
    ),
    cdf(
        "score_of_the_weight",
        "(x - max) - ln_of(total);\n            log_probs",
        "(x - max);\n            log_probs",
    ),
    cdf("score_beyond_the_row", "wrong == 0u && token < vocab", "wrong == 0u"),
    cdf("any_greedy_token_certain", "(p.factor != 0.0f || x == max) ? ln", "true ? ln"),
    cdf("k_off_by_one", "max, p.top_k, 3u", "max, p.top_k + 1u, 3u"),
    cdf("k_splits_equals", "p.top_k, 3u, counts", "p.top_k, 6u, counts"),
    cdf(
        "p_of_the_whole",
        "weigh_block(row, p, b, vocab, floor);\n                        if",
        "weigh_block(row, p, b, vocab, 0);\n                        if",
    ),
    cdf("p_keeps_equals", "max, target, 6u", "max, target, 3u"),
    cdf("min_p_off", "float least = max + p.ln_min_p;", "float least = max + 0.5f * p.ln_min_p;"),
    cdf("bins_not_cleared", "counts[i] = 0;", ""),
    cdf(
        "cleared_too_late",
        "            counts[i] = 0;\n        }\n        __syncthreads();",
        "            counts[i] = 0;\n        }",
    ),
    cdf(
        "plain_add",
        "atomicAdd(&counts[(u32)(word >> shift) & ((1u << bits) - 1u)], mass);",
        "counts[(u32)(word >> shift) & ((1u << bits) - 1u)] += mass;",
    ),
    cdf("prefix_lost", "const bool inside = d == 0u ||", "const bool inside = true ||"),
    cdf("target_kept", "target -= above;", ""),
    cdf("max_of_one_warp", "max = tops[w] > max ? tops[w] : max;", ""),
    whole(STAT, STAT_KERNELS),
    stat("no_rescale", "sum *= e;", ""),
    stat(
        "weights_not_rescaled",
        "weighted = e > 0.0f ? e * (weighted + (max - top) * sum) : 0.0f;",
        "",
    ),
    stat("merge_forgets_shift", "(a.weighted + da * a.sum)", "(a.weighted)"),
    stat("second_of_one_side", "max64(low, max64(a.second, b.second))", "low"),
    stat("tile_carried", "                max = neg_infinity();\n", ""),
    stat(
        "no_barrier",
        "        __syncthreads();\n        if (threadIdx.x == 0u) {\n            for",
        "        if (threadIdx.x == 0u) {\n            for",
    ),
    stat("a_warp_lost", "for (u32 w = 1; w < WARPS; ++w)", "for (u32 w = 2; w < WARPS; ++w)"),
    stat("tail_overrun", "vocab - first < G ? vocab - first : G", "G"),
    stat("mask_ignored", "&& ((allowed >> i) & 1u) != 0u;", ";"),
    stat("minus_infinity_counts", "if (x[i] > neg_infinity()) {", "if (true) {"),
    whole(TREE, TREE_KERNELS),
    tree("any_child", "parents[begin + i] == node && tokens", "tokens"),
    tree("own_row", "sampled[begin + node]", "sampled[begin]"),
    tree(
        "global_gather",
        "kv_gather[begin + accepted] = node",
        "kv_gather[begin + accepted] = begin + node",
    ),
    tree("child_off_by_one", "__ffs((int)hits) - 1", "__ffs((int)hits)"),
    tree("first_warp_only", "from < end - begin; from += 32", "from < node + 2; from += 32"),
    tree("next_request", "i < end - begin && ", ""),
    tree("unsampled_taken", "if (token < 0) {", "if (token < -9) {"),
    tree("not_itself", "int at = (int)i;", "int at = parents[begin + i];"),
    tree("parent_only", "at = up < at ? up : -1;", "at = -1; (void)up;"),
    tree("not_cleared", "                row[j] = 0;", ""),
    tree("log_prob_of_the_root", "log_probs[begin + node]", "log_probs[begin]"),
    tree("pack_sum_of_half", "d < 32u; d <<= 1", "d < 16u; d <<= 1"),
    tree("pack_warp_lost", "sum += w < warp ?", "sum += w + 1u < warp ?"),
    tree("pack_second_round_lost", "before += all;", ""),
    tree(
        "pack_sums_early",
        "        __syncthreads();\n        u32 all = 0u;",
        "        u32 all = 0u;",
    ),
    tree(
        "pack_sums_reused",
        "        __syncthreads();  // sums are read before the next round writes them",
        "",
    ),
    tree(
        "pack_without_answer",
        "counts[b] >= 0 ? (u32)counts[b] + 1u : 0u;\n        u32 sum",
        "(u32)counts[b] + 1u;\n        u32 sum",
    ),
    tree(
        "pack_last_token_lost",
        "for (u32 i = lane; i < count;",
        "for (u32 i = lane; i + 1u < count;",
    ),
    tree("pack_local_rows", "(int)begin + node;", "node;"),
    whole(REJECT, REJECT_KERNELS),
    reject("swapped_test", "!(u * qd < px)", "!(u * px < qd)"),
    reject("soft_test", "!(u * qd < px)", "!(u * u * qd < px)"),
    reject("test_noise_of_the_residual", "PURPOSE_ACCEPT, 0u)", "PURPOSE_RESIDUAL, 0u)"),
    reject(
        "residual_noise_of_the_test",
        "PURPOSE_RESIDUAL, 0u) * total",
        "PURPOSE_ACCEPT, 0u) * total",
    ),
    reject("test_number_reused", "            ++draws;", ""),
    reject("tests_at_their_own_place", "start.index, start.branch", "law.p.index, start.branch"),
    reject(
        "target_residual",
        "(double)p * a - (double)q * b;\n    return x > 0.0 ? x : 0.0;",
        "(double)p * a; (void)q; (void)b;\n    return x > 0.0 ? x : 0.0;",
    ),
    reject(
        "draft_residual",
        "const double x = (double)p * a - (double)q * b;",
        "const double x = (double)q * b; (void)p; (void)a;",
    ),
    reject("plain_residual", "kept * law.scale, row", "law.scale, row"),
    reject("uncapped", "grown < 1.0 ? grown : 1.0", "grown"),
    reject(
        "first_failure_stops",
        "                if (keep) {",
        "                if (!keep) { break; }\n                if (keep) {",
    ),
    reject("forgets_deficit", "(z + (1.0 - weight_of_path)) * weight_of_path", "z + 1.0"),
    reject(
        "row_of_the_parent",
        "const u32 r = first + i;",
        "const u32 r = first + (i == 0u ? 0u : i - 1u);",
    ),
    reject("target_of_the_root", "targets[first + tau]", "targets[first]"),
    reject("score_of_the_root", "target_log_probs[first + tau]", "target_log_probs[first]"),
    reject("floor_ignored", "floor != 0 && x > neg_infinity()", "false && x > neg_infinity()"),
    reject("greedy_is_soft", "if (p.factor == 0.0f) {", "if (false) {"),
    reject("a_block_lost", "b < blocks; b += WARPS", "b + 1u < blocks || b == 0u; b += WARPS"),
    reject("total_of_one_warp", "best = max64(best, shared.tops[w]);", ""),
    reject(
        "q_unchecked",
        "if (!(off <= LAW_TOLERANCE && -off <= LAW_TOLERANCE)) {",
        "if (false) {",
    ),
    reject("negative_q_taken", "w >= 0.0f && w < pos_infinity()", "w < pos_infinity()"),
    reject("massless_draft_taken", "if (!(qx > 0.0f)) {", "if (false) {"),
    reject(
        "sums_early",
        "    __syncthreads();\n    if (threadIdx.x == 0u) {\n        double total = 0.0;",
        "    if (threadIdx.x == 0u) {\n        double total = 0.0;",
    ),
    reject(
        "weights_early",
        "    __syncthreads();\n    double cumulative = kept;",
        "    double cumulative = kept;",
    ),
    reject("inside_block_from_zero", "double cumulative = kept;", "double cumulative = 0.0;"),
    reject("a_block_late", "before + sum > target", "before > target"),
    reject(
        "second_request_lost",
        "b < requests; b += gridDim.x",
        "b < requests && b < gridDim.x; b += gridDim.x",
    ),
    whole(SELF, SELF_KERNELS),
    selftest("no_barrier", &["block_sum", "shuffle_sum"], None, Some("NO_BARRIER")),
    selftest("no_syncwarp", &["rotate"], None, Some("NO_SYNCWARP")),
    selftest(
        "plain_count",
        &["histogram"],
        Some(("atomicAdd(&count[in[i] & 7u], 1u)", "count[in[i] & 7u] += 1u")),
        None,
    ),
    selftest(
        "plain_total",
        &["histogram"],
        Some(("atomicAdd(&out[t], count[t])", "out[t] += count[t]")),
        None,
    ),
    selftest(
        "not_zeroed",
        &["histogram"],
        Some(("if (t < 8) {\n        count[t] = 0;", "if (t < 7) {\n        count[t] = 0;")),
        None,
    ),
    selftest(
        "wrong_lanes",
        &["shuffle_sum"],
        Some(("(0xFu, x, 2, 4)", "(0x3u | (1u << t), x, 2, 4)")),
        None,
    ),
    selftest(
        "left_behind",
        &["rotate"],
        Some(("slot[t] = i < n", "if (t == 5) return; slot[t] = i < n")),
        None,
    ),
];

fn main() {
    println!("cargo::rustc-check-cfg=cfg(shim_built)");
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=CXX");
    println!("cargo::rerun-if-env-changed=CXXFLAGS");
    println!("cargo::rerun-if-changed=cpp");
    println!("cargo::rerun-if-changed=../kernels");
    let out = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default());
    let mut table = String::from("&[\n");
    for unit in UNITS {
        for kernel in unit.kernels {
            let _ = writeln!(table, "({kernel:?}, {:?}),", unit.variant);
        }
    }
    table.push(']');
    write(&out.join("variants.rs"), &table);
    write(&out.join("drivers.rs"), "None");

    let linux = env::var_os("CARGO_CFG_TARGET_OS").is_some_and(|os| os == "linux");
    let mut runtime = compiler();
    if !linux || !probe(&runtime, &out) {
        println!(
            "cargo::warning=no C++ compiler with -fsanitize=thread: CUDA kernels are not run on the CPU"
        );
        // A file that never exists: look again at every build, a compiler may have been installed.
        println!("cargo::rerun-if-changed=no-compiler-yet");
        return;
    }
    runtime.file("cpp/sched.cpp").file("cpp/shadow.cpp").file(entry_table(&out));
    let mut kernels = compiler();
    kernels.flag("-fsanitize=thread").flag("-fno-tree-loop-distribute-patterns");
    for (number, unit) in UNITS.iter().enumerate() {
        kernels.file(kernel_unit(&out, number, unit));
    }
    fake_drivers(&out, &runtime, &kernels);
    // Kernels first: their archive refers to the runtime's.
    kernels.compile("trivium_cuda_shim_kernels");
    runtime.compile("trivium_cuda_shim_runtime");
    println!("cargo::rustc-cfg=shim_built");
}

/// `-O1`: quick to build, and every access that the source makes to memory is still there to be seen.
fn compiler() -> cc::Build {
    let mut build = cc::Build::new();
    build.cpp(true).std("c++17").opt_level(1).debug(false).warnings(false).include("cpp");
    build.flag("-fno-strict-aliasing").flag("-ffp-contract=off").flag("-fno-builtin-memset");
    build.cargo_warnings(false);
    build
}

fn probe(build: &cc::Build, out: &Path) -> bool {
    let file = out.join("probe.cpp");
    write(&file, "#include <ucontext.h>\n#include <vector>\nint probe(int* p) { return *p; }\n");
    let mut build = build.clone();
    build.flag("-fsanitize=thread").file(&file).cargo_metadata(false);
    build.try_compile("trivium_cuda_shim_probe").is_ok()
}

/// Links two libraries under the driver's name: one that runs launches in the shim, and one without a
/// single symbol, as a broken installation would be. Their folders go into `drivers.rs`.
fn fake_drivers(out: &Path, runtime: &cc::Build, kernels: &cc::Build) {
    let (working, broken) = (out.join("working"), out.join("broken"));
    for folder in [&working, &broken] {
        assert!(fs::create_dir_all(folder).is_ok(), "cannot make {}", folder.display());
    }
    let empty = out.join("empty.cpp");
    write(&empty, "");
    let mut objects = runtime.compile_intermediates();
    objects.extend(kernels.compile_intermediates());
    objects.extend(compiler().file("cpp/fake_driver.cpp").compile_intermediates());
    let nothing = compiler().file(&empty).compile_intermediates();
    for (folder, objects) in [(&working, objects), (&broken, nothing)] {
        let mut link = runtime.get_compiler().to_command();
        link.arg("-shared").args(objects).arg("-o").arg(folder.join("libcuda.so"));
        assert!(link.status().is_ok_and(|s| s.success()), "cannot link {}", folder.display());
    }
    write(&working.join("sources"), &digest());
    write(
        &out.join("drivers.rs"),
        &format!("Some((r\"{}\", r\"{}\"))", working.display(), broken.display()),
    );
}

/// FNV-1a of the names and bytes of the sources: the Python tests look for the library of the present ones.
fn digest() -> String {
    let mut state = 0xCBF2_9CE4_8422_2325u64;
    for folder in ["../kernels", "cpp"] {
        let mut files: Vec<PathBuf> = fs::read_dir(folder)
            .map(|all| all.filter_map(|f| Some(f.ok()?.path())).collect())
            .unwrap_or_default();
        files.sort();
        for file in files {
            let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
            for byte in name.bytes().chain(fs::read(&file).unwrap_or_default()) {
                state = (state ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01B3);
            }
        }
    }
    format!("{state:016x}")
}

/// A source with the headers of its folder in their places, each once, as `#pragma once` has it.
fn with_headers(path: &Path, seen: &mut Vec<PathBuf>) -> String {
    let Ok(text) = fs::read_to_string(path) else { panic!("{} is missing", path.display()) };
    let mut out = String::new();
    for line in text.lines() {
        if let Some(name) = line.strip_prefix("#include \"").and_then(|l| l.strip_suffix('"')) {
            let header = path.with_file_name(name);
            if !seen.contains(&header) {
                seen.push(header.clone());
                out += &with_headers(&header, seen);
            }
        } else if line != "#pragma once" {
            out += line;
            out.push('\n');
        }
    }
    out
}

/// Writes the translation unit of one variant. Variants define the same names, and the linker must not
/// take one for the other: an unnamed namespace keeps the templates apart, a macro the entries.
fn kernel_unit(out: &Path, number: usize, unit: &Unit) -> PathBuf {
    let mut text = with_headers(Path::new(unit.source), &mut Vec::new());
    if let Some((from, to)) = unit.replace {
        let times = text.matches(from).count();
        assert!(times == 1, "variant {}: {from:?} occurs {times} times", unit.variant);
        text = text.replace(from, to);
    }
    let mut define = unit.define.map_or(String::new(), |d| format!("#define {d}\n"));
    let whole = UNITS.iter().find(|u| u.source == unit.source && u.variant.is_empty());
    for kernel in whole.map_or(unit.kernels, |u| u.kernels) {
        // The entries that a variant does not use, one line each in the source, are left out.
        if !unit.kernels.contains(kernel) {
            text = text
                .lines()
                .filter(|l| !l.contains(&format!("({kernel}, ")))
                .collect::<Vec<_>>()
                .join("\n");
        }
        let _ = writeln!(define, "#define {kernel} shim_{number}_{kernel}");
    }
    let mut unit_text = format!("#include \"cuda_shim.h\"\n{define}namespace {{\n{text}\n}}\n");
    for kernel in unit.kernels {
        let _ = writeln!(
            unit_text,
            "static void enter_{kernel}(void** p) {{ shim_call({kernel}, p); }}\n\
             extern const ShimEntry shim_entry_{number}_{kernel} = {{ \"{kernel}\", \"{}\", \
             shim_arity({kernel}), enter_{kernel} }};",
            unit.variant
        );
    }
    let file = out.join(format!("unit_{number}.cpp"));
    write(&file, &unit_text);
    file
}

/// Writes the table by which the scheduler finds an entry.
fn entry_table(out: &Path) -> PathBuf {
    let mut text = String::from("#include <cstddef>\n#include \"cuda_shim.h\"\n");
    let mut list = String::new();
    let mut count = 0;
    for (number, unit) in UNITS.iter().enumerate() {
        for kernel in unit.kernels {
            let _ = writeln!(text, "extern const ShimEntry shim_entry_{number}_{kernel};");
            let _ = write!(list, "&shim_entry_{number}_{kernel}, ");
            count += 1;
        }
    }
    let _ = writeln!(
        text,
        "extern \"C\" {{ extern const ShimEntry* const shim_entries[] = {{ {list} }};\n\
         extern const size_t shim_entry_count = {count}; }}"
    );
    let file = out.join("entries.cpp");
    write(&file, &text);
    file
}

fn write(path: &Path, text: &str) {
    assert!(fs::write(path, text).is_ok(), "cannot write {}", path.display());
}
