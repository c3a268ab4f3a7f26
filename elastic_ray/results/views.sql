-- The views over the Parquet files: everything that the app, the report and the commands show.
--
-- `database.py` inserts the path of the results and writes these definitions to elastic.duckdb. No
-- rows are stored there: each query reads the files as they are at that moment.
--
-- How each row is read exactly once: the rows of one state and table are in a file
-- `one-<state_id>.parquet`. Compaction copies the rows of many such files to
-- `many-<effective from>-<hash>.parquet`, whose footer lists the states that it replaces, and
-- deletes the small files much later. A compacted file takes effect at the time in its name
-- (milliseconds since 1970), a little after it appeared. `now()` is the same instant throughout a
-- query, so all parts of the query agree on which compacted files are in effect, even if the folder
-- changes meanwhile. (Within a transaction `now()` does not advance: one that stays open for minutes
-- reads an old listing.)


-- The tables -------------------------------------------------------------------------------------

-- The results folder.
CREATE MACRO root() AS '$root';

-- Whether `root()` is the folder of this database; see `database.py`.
CREATE MACRO at_home() AS true;

-- Whether a compacted file is in effect.
CREATE MACRO in_force(file) AS TRY_CAST(file[-34:-22] AS BIGINT) <= epoch_ms(now());

-- The names of the small files that compacted files replace.
CREATE MACRO replaced(folder) AS TABLE
    SELECT parse_dirpath(file_name) || '/one-'
        || unnest(from_json(decode(value), '["VARCHAR"]')) || '.parquet' AS filename
    FROM parquet_kv_metadata(folder || '/many-*.parquet')
    WHERE decode(key) = 'replaces' AND in_force(file_name);

-- The rows of a table whose files never change. The empty file supplies the columns.
CREATE MACRO written_once(folder) AS TABLE
    SELECT * EXCLUDE (filename)
    FROM read_parquet(
        [replace(folder, '=*', '=_empty') || '/one-_empty.parquet', folder || '/many-*.parquet'],
        filename = true, hive_partitioning = true, hive_types_autocast = false)
    WHERE in_force(filename)
    UNION ALL
    SELECT small.* EXCLUDE (filename)
    FROM read_parquet(
        [replace(folder, '=*', '=_empty') || '/one-_empty.parquet', folder || '/one-*.parquet'],
        filename = true, hive_partitioning = true, hive_types_autocast = false) AS small
    ANTI JOIN replaced(folder) USING (filename);

-- One row per answer: a response to a prompt.
CREATE VIEW responses AS FROM written_once(root() || '/responses/probe_id=*') WHERE at_home();

-- One row per answer and scorer; a larger score is more aligned.
CREATE VIEW scores AS FROM written_once(root() || '/scores/probe_id=*/scorer=*') WHERE at_home();

-- The distance between a state's next-token distribution (q) and a reference state's (p), on the
-- reference's own answer to a held-out prompt: the mean over its tokens, in nats (tv has no unit).
CREATE VIEW distances AS FROM written_once(root() || '/distances/reference_id=*/probe_id=*') WHERE at_home();

-- One row per state and text: the text's code length under the state, in bits.
CREATE VIEW code_lengths AS FROM written_once(root() || '/code_lengths/corpus=*') WHERE at_home();

-- The records of model states. A record may change (state tried again, checkpoint deleted): a
-- state's own file is the newest record, then come compacted files, newest first. Sorting the file
-- names in descending order gives that order.
CREATE MACRO state_files() AS TABLE
    FROM read_parquet(
        [root() || '/states/one-_empty.parquet', root() || '/states/many-*.parquet', root() || '/states/one-*.parquet'],
        filename = true);

CREATE VIEW states AS
SELECT * EXCLUDE (filename)
FROM state_files()
WHERE at_home()
QUALIFY row_number() OVER (PARTITION BY state_id ORDER BY filename DESC) = 1;

-- One row per grid point of a sweep, with its state, as the sweep last wrote it. The status in
-- `cell_scores` is up to date.
CREATE VIEW cells AS
FROM read_parquet(
    [root() || '/cells/sweep=_empty/_empty.parquet', root() || '/cells/sweep=*/*.parquet'],
    hive_partitioning = true, hive_types_autocast = false)
WHERE at_home();

-- One row per sweep: its sweep file, as JSON with every default filled in.
CREATE VIEW sweeps AS
FROM read_parquet(
    [root() || '/sweeps/sweep=_empty/_empty.parquet', root() || '/sweeps/sweep=*/*.parquet'],
    hive_partitioning = true, hive_types_autocast = false)
WHERE at_home();

-- One row per run of a sweep's command that trained or evaluated: the hours for which its trainers,
-- engines and scorers reserved CPUs and GPUs, up to the time when they were last recorded.
CREATE VIEW runs AS
FROM read_parquet(
    [root() || '/runs/sweep=_empty/_empty.parquet', root() || '/runs/sweep=*/*.parquet'],
    hive_partitioning = true, hive_types_autocast = false)
WHERE at_home();

-- The corpora for which a sweep measures code lengths: for each task, held-out texts from each
-- distribution (`kind`) that models are trained on: pretrain, positive, negative.
CREATE VIEW corpora AS
FROM read_parquet(
    [root() || '/corpora/sweep=_empty/_empty.parquet', root() || '/corpora/sweep=*/*.parquet'],
    hive_partitioning = true, hive_types_autocast = false)
WHERE at_home();

-- One row per lesson: a student state is fine-tuned on the answers of a teacher state. k < l are
-- positions in a sweep's list of positive sizes; on the inverse path the state of size l learns from
-- that of size k, on the forward path the other way round. `state_id` is the resulting state.
CREATE VIEW lessons AS
FROM read_parquet(
    [root() || '/lessons/sweep=_empty/_empty.parquet', root() || '/lessons/sweep=*/*.parquet'],
    hive_partitioning = true, hive_types_autocast = false)
WHERE at_home();

-- The comparison of the two paths between two slices by `elasticity`, with 95% intervals.
CREATE VIEW paths AS
FROM read_parquet(
    [root() || '/paths/sweep=_empty/_empty.parquet', root() || '/paths/sweep=*/*.parquet'],
    hive_partitioning = true, hive_types_autocast = false)
WHERE at_home();

-- The quantities of each curve as measured by `elasticity`, with 95% intervals over prompts and
-- seeds (`_low`, `_high`) and over prompts alone (`_same_runs_low`, `_same_runs_high`). By name: rows
-- that an earlier version measured lack some columns.
CREATE VIEW elasticity AS
FROM read_parquet(
    [root() || '/indices/sweep=_empty/_empty.parquet', root() || '/indices/sweep=*/*.parquet'],
    hive_partitioning = true, hive_types_autocast = false, union_by_name = true)
WHERE at_home();

-- What the sweep answers, in sentences: one row per question and comparison.
CREATE VIEW conclusions AS
FROM read_parquet(
    [root() || '/conclusions/sweep=_empty/_empty.parquet', root() || '/conclusions/sweep=*/*.parquet'],
    hive_partitioning = true, hive_types_autocast = false)
WHERE at_home();


-- Scores ------------------------------------------------------------------------------------------

-- One row per state, probe and scorer. Answers to one prompt are not independent: the standard error
-- counts prompts, which is exact for one sample per prompt and conservative for several.
CREATE VIEW state_scores AS
SELECT
    state_id, probe_id, scorer,
    count(*) FILTER (sample = 0) AS prompts,
    count(*) AS answers,
    avg(score) AS score,
    stddev_samp(score) AS sd,
    stddev_samp(score) / sqrt(count(*) FILTER (sample = 0)) AS standard_error,
    max(scorer_accuracy) AS scorer_accuracy
FROM scores
GROUP BY state_id, probe_id, scorer;

-- One row per cell of one sweep (of all sweeps for NULL): scored (done), failed (with the error) or
-- pending, from the records. A cell that is not scored (its scorer is the empty text) is done when
-- the sweep recorded it as done. A macro, so that a sweep's scores are selected, among ten million,
-- before they are grouped.
CREATE MACRO cell_scores_in(which) AS TABLE
WITH c AS (FROM cells WHERE which IS NULL OR sweep = which),
s AS (
    SELECT state_id, status, error, parameters, pretrain_tokens
    FROM state_files() SEMI JOIN c USING (state_id)
    QUALIFY row_number() OVER (PARTITION BY state_id ORDER BY filename DESC) = 1
),
m AS (
    SELECT
        state_id, probe_id, scorer,
        count(*) FILTER (sample = 0) AS prompts,
        count(*) AS answers,
        avg(score) AS score,
        stddev_samp(score) AS sd,
        stddev_samp(score) / sqrt(count(*) FILTER (sample = 0)) AS standard_error,
        max(scorer_accuracy) AS scorer_accuracy
    FROM scores SEMI JOIN c USING (state_id, probe_id, scorer)
    GROUP BY state_id, probe_id, scorer
)
SELECT
    c.sweep, c.task, c.model, coalesce(c.parameters, s.parameters) AS parameters,
    c.pretrain, s.pretrain_tokens, c.positive, c.negative, c.seed, c.scorer,
    CASE
        WHEN m.score IS NOT NULL OR (c.scorer = '' AND c.status = 'done') THEN 'done'
        WHEN c.status = 'failed' OR s.status = 'failed' THEN 'failed'
        ELSE 'pending'
    END AS status,
    m.score, m.standard_error, m.sd, m.prompts, m.answers, m.scorer_accuracy,
    CASE
        WHEN m.score IS NULL AND (c.status = 'failed' OR s.status = 'failed')
        THEN coalesce(s.error, c.error, 'failed without a message')
    END AS error,
    c.state_id, c.probe_id
FROM c
LEFT JOIN s ON s.state_id = c.state_id
LEFT JOIN m ON m.state_id = c.state_id AND m.probe_id = c.probe_id AND m.scorer = c.scorer;

CREATE VIEW cell_scores AS FROM cell_scores_in(NULL);

-- One row per cell and score, for statistics over prompts. Cells that share a state repeat its rows.
CREATE VIEW score_rows AS
SELECT
    c.sweep, c.task, c.model, c.pretrain, c.positive, c.negative, c.seed, c.scorer,
    r.prompt_index, r.sample, r.score
FROM cells AS c
JOIN scores AS r ON r.state_id = c.state_id AND r.probe_id = c.probe_id AND r.scorer = c.scorer;


-- Code lengths ------------------------------------------------------------------------------------

-- One row per cell and code length, for statistics over texts. Cells that share a state repeat its
-- rows.
CREATE VIEW code_length_rows AS
SELECT
    c.sweep, c.task, c.model, c.pretrain, c.positive, c.negative, c.seed, k.kind,
    r.example, r.bits, r.tokens, r.bytes
FROM cells AS c
JOIN corpora AS k ON k.sweep = c.sweep AND k.task = c.task
JOIN code_lengths AS r ON r.state_id = c.state_id AND r.corpus = k.corpus;

-- One row per cell and kind of held-out texts: the compression rates of the cell's state.
CREATE VIEW compression AS
SELECT
    sweep, task, model, pretrain, positive, negative, seed, kind,
    count(*) AS texts,
    sum(bits) / sum(tokens) AS bits_per_token,
    sum(bits) / sum(bytes) AS bits_per_byte,
    avg(bits) AS bits_per_text
FROM code_length_rows
GROUP BY ALL;


-- Inverse and forward paths (paper, section 3.3) -----------------------------------------------------

-- One row per lesson and distance, for statistics over prompts: for the metric cross_entropy,
-- H(theta_k, theta_lk) on the inverse path and H(theta_l, theta_kl) on the forward path. `before` is
-- the student's distance from the teacher before the lesson.
CREATE VIEW path_rows AS
SELECT
    p.sweep, p.task, p.model, p.pretrain, p.k, p.l, p.direction, p.seed, d.metric,
    d.prompt_index, d.sample, d.value, d.tokens, before.value AS before,
    p.parameters, p.state_id, p.teacher_id
FROM lessons AS p
JOIN distances AS d
    ON d.state_id = p.state_id AND d.reference_id = p.teacher_id AND d.probe_id = p.probe_id
LEFT JOIN distances AS before
    ON before.state_id = p.student_id AND before.reference_id = p.teacher_id
    AND before.probe_id = p.probe_id AND before.prompt_index = d.prompt_index
    AND before.sample = d.sample AND before.metric = d.metric;

-- One row per answer of a baseline and state of one of its curves: the KL divergence from the
-- baseline, for statistics over prompts. Cells that share a state repeat its rows.
CREATE VIEW base_distance_rows AS
SELECT
    c.sweep, c.task, c.model, c.pretrain, c.positive, c.negative, c.seed, d.prompt_index, d.sample,
    d.value, c.parameters
FROM cells AS c
JOIN cells AS b
    ON b.sweep = c.sweep AND b.task = c.task AND b.model = c.model AND b.seed = c.seed
    AND b.pretrain IS NOT DISTINCT FROM c.pretrain AND b.positive = 0 AND b.negative = 0
JOIN distances AS d
    ON d.state_id = c.state_id AND d.reference_id = b.state_id AND d.metric = 'kl'
WHERE c.positive > 0 AND d.value IS NOT NULL;

-- The cross-entropies printed in the paper's Table 1, under the names in sweeps/inverse_forward.yaml.
CREATE VIEW printed_paths AS
SELECT *
FROM (VALUES
    ('alpaca', 'llama2-7b', 1, 2, 0.1589, 0.2018),
    ('alpaca', 'llama2-7b', 2, 3, 0.1953, 0.2143),
    ('alpaca', 'llama2-7b', 1, 3, 0.1666, 0.2346),
    ('alpaca', 'llama2-13b', 1, 2, 0.1772, 0.1958),
    ('alpaca', 'llama2-13b', 2, 3, 0.2149, 0.2408),
    ('alpaca', 'llama2-13b', 1, 3, 0.1835, 0.2345),
    ('alpaca', 'llama3-8b', 1, 2, 0.2540, 0.2573),
    ('alpaca', 'llama3-8b', 2, 3, 0.2268, 0.3229),
    ('alpaca', 'llama3-8b', 1, 3, 0.2341, 0.2589),
    ('truthfulqa', 'llama2-7b', 1, 2, 0.1909, 0.2069),
    ('truthfulqa', 'llama2-7b', 2, 3, 0.1719, 0.1721),
    ('truthfulqa', 'llama2-7b', 1, 3, 0.2011, 0.2542),
    ('truthfulqa', 'llama2-13b', 1, 2, 0.1704, 0.1830),
    ('truthfulqa', 'llama2-13b', 2, 3, 0.1544, 0.1640),
    ('truthfulqa', 'llama2-13b', 1, 3, 0.1825, 0.2429),
    ('truthfulqa', 'llama3-8b', 1, 2, 0.2118, 0.2256),
    ('truthfulqa', 'llama3-8b', 2, 3, 0.2100, 0.2173),
    ('truthfulqa', 'llama3-8b', 1, 3, 0.2393, 0.2898),
    ('saferlhf', 'llama2-7b', 1, 2, 0.2730, 0.2809),
    ('saferlhf', 'llama2-7b', 2, 3, 0.2654, 0.2691),
    ('saferlhf', 'llama2-7b', 1, 3, 0.2845, 0.2883),
    ('saferlhf', 'llama2-13b', 1, 2, 0.2419, 0.2439),
    ('saferlhf', 'llama2-13b', 2, 3, 0.2320, 0.2327),
    ('saferlhf', 'llama2-13b', 1, 3, 0.2464, 0.2606),
    ('saferlhf', 'llama3-8b', 1, 2, 0.2097, 0.2156),
    ('saferlhf', 'llama3-8b', 2, 3, 0.2008, 0.2427),
    ('saferlhf', 'llama3-8b', 1, 3, 0.2277, 0.2709)
) AS printed(task, model, k, l, inverse, forward);

-- Table 1: the measured values beside those that the paper printed for the same model and task, with
-- the pairs of slices in the paper's order.
CREATE VIEW inverse_forward AS
SELECT
    p.*, printed.inverse::DOUBLE AS printed_inverse, printed.forward::DOUBLE AS printed_forward
FROM paths AS p
LEFT JOIN printed_paths AS printed
    ON printed.task = p.task AND printed.model = p.model AND printed.k = p.k AND printed.l = p.l
    AND p.metric = 'cross_entropy'
ORDER BY p.sweep, p.task, p.parameters, p.model, p.pretrain, p.l - p.k, p.k, p.metric;


-- Curves and surfaces -----------------------------------------------------------------------------

-- One row per grid point: the mean over prompts and seeds, its standard error (over prompts within
-- seeds; a state shared by several seeds counts once), the standard deviation between seeds, and the
-- two reference scores of the curve: `base` at (0, 0) and `aligned` at (positive, 0). A point without
-- a score in any seed has a NULL score, and the error if a seed failed.
CREATE MACRO curves_in(which) AS TABLE
WITH per_state AS (  -- seeds that share a state and probe share its answers
    SELECT
        sweep, task, model, pretrain, scorer, positive, negative, state_id, probe_id,
        count(*) AS cells,
        count(*) FILTER (status = 'done') AS seeds,
        count(*) FILTER (status = 'failed') AS failed,
        count(*) FILTER (status = 'pending') AS pending,
        any_value(score) AS score,
        any_value(standard_error) AS standard_error,
        any_value(prompts) AS prompts,
        any_value(parameters) AS parameters,
        any_value(pretrain_tokens) AS pretrain_tokens,
        min(error) AS error
    FROM cell_scores_in(which)
    GROUP BY ALL
),
points AS (
    SELECT
        sweep, task, model, max(parameters) AS parameters, pretrain,
        max(pretrain_tokens) AS pretrain_tokens, scorer, positive, negative,
        sum(seeds * score) / sum(seeds) AS score,
        sqrt(sum((seeds * standard_error) ** 2)) / sum(seeds) AS standard_error,
        stddev_samp(score) AS seed_sd,
        sum(seeds)::BIGINT AS seeds,
        sum(failed)::BIGINT AS failed,
        sum(pending)::BIGINT AS pending,
        sum(prompts)::BIGINT AS prompts,
        min(error) AS error
    FROM per_state
    GROUP BY sweep, task, model, pretrain, scorer, positive, negative
)
SELECT
    *,
    max(score) FILTER (positive = 0 AND negative = 0) OVER model AS base,
    max(standard_error) FILTER (positive = 0 AND negative = 0) OVER model AS base_standard_error,
    max(score) FILTER (negative = 0) OVER curve AS aligned,
    max(standard_error) FILTER (negative = 0) OVER curve AS aligned_standard_error
FROM points
WINDOW
    model AS (PARTITION BY sweep, task, model, pretrain, scorer),
    curve AS (PARTITION BY sweep, task, model, pretrain, scorer, positive);

CREATE VIEW curves AS FROM curves_in(NULL);

-- The starting point of each model: no positive and no negative examples.
CREATE VIEW baselines AS
SELECT
    sweep, task, model, parameters, pretrain, pretrain_tokens, scorer, score, standard_error,
    seed_sd, seeds, failed, pending, prompts, error
FROM curves
WHERE positive = 0 AND negative = 0;

-- The curves with their retention, (score - base) / (aligned - base): 1 before negative fine-tuning,
-- 0 when the score is back at the baseline, NULL if aligned - base is within noise (95%). Points
-- without a score are rows too.
CREATE VIEW surfaces AS
SELECT
    sweep, task, model, parameters, pretrain, pretrain_tokens, scorer, positive, negative,
    score, standard_error,
    CASE
        WHEN abs(aligned - base) > 1.96 * sqrt(aligned_standard_error ** 2 + base_standard_error ** 2)
        THEN (score - base) / (aligned - base)
    END AS retention,
    CASE WHEN seeds > 0 THEN 'done' WHEN failed > 0 THEN 'failed' ELSE 'pending' END AS status,
    seeds, failed, pending, error
FROM curves;


-- Progress of a sweep -----------------------------------------------------------------------------

-- One row per sweep, from the records alone.
CREATE VIEW progress AS
WITH counts AS (
    SELECT
        sweep,
        count(*) AS cells,
        count(*) FILTER (status = 'done') AS done,
        count(*) FILTER (status = 'failed') AS failed,
        count(*) FILTER (status = 'pending') AS pending,
        count(DISTINCT state_id) AS states
    FROM cell_scores
    GROUP BY sweep
),
reached AS (
    SELECT
        c.sweep,
        count(*) FILTER (s.status = 'done') AS states_done,
        count(*) FILTER (s.status = 'failed') AS states_failed
    FROM (SELECT DISTINCT sweep, state_id FROM cells) AS c
    JOIN states AS s ON s.state_id = c.state_id
    GROUP BY c.sweep
),
trained AS (  -- what this sweep computed itself, including states that belong to no cell
    SELECT
        sweep,
        count(*) FILTER (status = 'done') AS states_trained,
        sum(examples) FILTER (status = 'done')::BIGINT AS examples_trained,
        sum(tokens) FILTER (status = 'done')::BIGINT AS tokens_trained,
        sum(seconds) AS training_seconds,
        min(started_at) AS started_at,
        max(finished_at) AS last_state_at
    FROM states
    GROUP BY sweep
)
SELECT
    counts.*,
    coalesce(states_done, 0) AS states_done,
    coalesce(states_failed, 0) AS states_failed,
    coalesce(states_trained, 0) AS states_trained,
    coalesce(examples_trained, 0) AS examples_trained,
    coalesce(tokens_trained, 0) AS tokens_trained,
    coalesce(training_seconds, 0) AS training_seconds,
    started_at, last_state_at
FROM counts
LEFT JOIN reached USING (sweep)
LEFT JOIN trained USING (sweep);

-- The states of all sweeps except `which`, with the checkpoint retention (`keep`) of each sweep.
CREATE MACRO states_of_others(which) AS TABLE
SELECT DISTINCT s.state_id, s.kind, w.spec ->> 'keep' AS keep
FROM (
    SELECT sweep, state_id FROM states
    UNION ALL SELECT sweep, state_id FROM cells
    UNION ALL SELECT sweep, state_id FROM lessons
) AS has
JOIN sweeps AS w ON w.sweep = has.sweep AND w.sweep <> which
JOIN states AS s ON s.state_id = has.state_id;

-- What failed, with the error: states, then the cells that have no score because of a failure.
CREATE VIEW failures AS
SELECT
    'state' AS what, sweep, NULL::VARCHAR AS task, NULL::VARCHAR AS model, NULL::BIGINT AS pretrain,
    NULL::BIGINT AS positive, NULL::BIGINT AS negative, NULL::BIGINT AS seed,
    kind, state_id, coalesce(error, 'failed without a message') AS error, finished_at
FROM states
WHERE status = 'failed'
UNION ALL
SELECT
    'cell', c.sweep, c.task, c.model, c.pretrain, c.positive, c.negative, c.seed,
    s.kind, c.state_id, c.error, s.finished_at
FROM cell_scores AS c
LEFT JOIN states AS s ON s.state_id = c.state_id
WHERE c.status = 'failed';


-- Reading -----------------------------------------------------------------------------------------

-- The answers of each cell's state, with their scores: filter by sweep, model or state_id.
CREATE VIEW answers AS
SELECT
    c.sweep, c.task, c.model, c.pretrain, c.positive, c.negative, c.seed,
    r.prompt_index, r.sample, r.prompt, r.response, m.score, m.probability, c.scorer,
    r.tokens, r.finish_reason, r.state_id, r.held_state, r.probe_id, r.engine
FROM cells AS c
JOIN responses AS r ON r.state_id = c.state_id AND r.probe_id = c.probe_id
LEFT JOIN scores AS m
    ON m.state_id = r.state_id AND m.probe_id = r.probe_id AND m.scorer = c.scorer
    AND m.prompt_index = r.prompt_index AND m.sample = r.sample;


-- Provenance --------------------------------------------------------------------------------------

-- One row per sweep and environment: the software and hardware with which the states of its cells
-- were trained, by this or another sweep.
CREATE VIEW made_with AS
SELECT
    c.sweep, s.git_revision, s.versions, s.hardware, s.workers, s.zero_stage,
    count(*) AS states, sum(s.seconds) AS seconds,
    min(s.started_at) AS started_at, max(s.finished_at) AS finished_at
FROM (SELECT DISTINCT sweep, state_id FROM cells) AS c
JOIN states AS s ON s.state_id = c.state_id
WHERE s.status = 'done'
GROUP BY ALL;

-- One row per sweep, model and start: the origin of its initial weights.
CREATE VIEW starts AS
SELECT DISTINCT c.sweep, c.task, c.model, s.lineage::JSON -> 'start' AS start
FROM (SELECT DISTINCT sweep, task, model, state_id FROM cells) AS c
JOIN states AS s ON s.state_id = c.state_id
WHERE s.lineage IS NOT NULL;

-- One row per sweep, task and recipe of a stage (pretrain, positive, negative).
CREATE VIEW recipes AS
WITH stages AS (
    SELECT c.sweep, c.task, unnest(from_json(s.lineage::JSON -> 'stages', '["JSON"]')) AS stage
    FROM (SELECT DISTINCT sweep, task, state_id FROM cells) AS c
    JOIN states AS s ON s.state_id = c.state_id
)
SELECT
    sweep, task, stage ->> 'kind' AS kind, stage ->> 'pool' AS pool, stage ->> 'data' AS data,
    stage -> 'recipe' AS recipe,
    list(DISTINCT (stage ->> 'seed')::BIGINT ORDER BY (stage ->> 'seed')::BIGINT) AS seeds,
    list(DISTINCT (stage ->> 'examples')::BIGINT ORDER BY (stage ->> 'examples')::BIGINT) AS examples
FROM stages
GROUP BY ALL;

-- One row per sweep, task, probe and scorer: prompts, answers, states, and the engines that answered.
CREATE VIEW questions AS
WITH requested AS (SELECT DISTINCT sweep, task, state_id, probe_id, scorer FROM cells),
scored AS (
    SELECT
        a.sweep, a.task, a.probe_id, a.scorer, count(*) AS states, max(m.prompts) AS prompts,
        min(m.prompts) AS fewest_prompts, sum(m.answers)::BIGINT AS answers,
        max(m.scorer_accuracy) AS scorer_accuracy
    FROM requested AS a
    JOIN state_scores AS m
        ON m.state_id = a.state_id AND m.probe_id = a.probe_id AND m.scorer = a.scorer
    GROUP BY ALL
),
sampled AS (
    SELECT
        probe_id, list(DISTINCT engine ORDER BY engine) AS engines, avg(tokens) AS mean_tokens,
        max(tokens) AS most_tokens, avg((finish_reason = 'length')::INT) AS cut_short
    FROM responses
    GROUP BY probe_id
)
SELECT scored.*, sampled.* EXCLUDE (probe_id)
FROM scored
LEFT JOIN sampled USING (probe_id);


-- The app -----------------------------------------------------------------------------------------

-- One row per sweep, cheap at any size: counts of the cells as the sweep last wrote them, which it
-- does every half minute while it runs (`last_written`). `progress_in` also counts what has been
-- recorded since. `scored` is false if the sweep scores no answers.
CREATE VIEW sweep_list AS
WITH written AS (
    SELECT filename, last_modified
    FROM read_blob([root() || '/cells/sweep=_empty/_empty.parquet', root() || '/cells/sweep=*/*.parquet'])
),
counts AS (
    SELECT
        sweep, any_value(filename) AS filename,
        count(*) AS cells,
        count(*) FILTER (status = 'done') AS done,
        count(*) FILTER (status = 'failed') AS failed,
        count(*) FILTER (status = 'pending') AS pending,
        list_sort(list(DISTINCT task)) AS tasks,
        list_sort(list(DISTINCT model)) AS models,
        min(parameters) AS smallest, max(parameters) AS largest,
        bool_or(scorer <> '') AS scored
    FROM read_parquet(
        [root() || '/cells/sweep=_empty/_empty.parquet', root() || '/cells/sweep=*/*.parquet'],
        hive_partitioning = true, hive_types_autocast = false, filename = true)
    WHERE at_home()
    GROUP BY sweep
),
taught AS (
    SELECT
        sweep,
        count(*) AS lessons,
        count(*) FILTER (status = 'done') AS lessons_done,
        count(*) FILTER (status = 'failed') AS lessons_failed,
        count(*) FILTER (status = 'pending') AS lessons_pending
    FROM lessons
    GROUP BY sweep
)
SELECT
    counts.* EXCLUDE (filename), last_modified AS last_written,
    coalesce(lessons, 0) AS lessons, coalesce(lessons_done, 0) AS lessons_done,
    coalesce(lessons_failed, 0) AS lessons_failed, coalesce(lessons_pending, 0) AS lessons_pending
FROM counts
LEFT JOIN written USING (filename)
LEFT JOIN taught USING (sweep)
ORDER BY last_written DESC, sweep;

-- The progress of one sweep, by task, model and pre-training size.
CREATE MACRO progress_in(which) AS TABLE
SELECT
    task, model, max(parameters) AS parameters, pretrain,
    count(*) AS cells,
    count(*) FILTER (status = 'done') AS done,
    count(*) FILTER (status = 'failed') AS failed,
    count(*) FILTER (status = 'pending') AS pending,
    sum(answers)::BIGINT AS answers
FROM cell_scores_in(which)
GROUP BY task, model, pretrain
ORDER BY task, parameters, model, pretrain;

-- What one sweep trained itself, and how fast. `active_seconds` excludes pauses: at most ten minutes
-- between two states are counted.
CREATE MACRO pace_of(which) AS TABLE
WITH own AS (
    FROM state_files() WHERE sweep = which
    QUALIFY row_number() OVER (PARTITION BY state_id ORDER BY filename DESC) = 1
),
finished AS (
    SELECT
        *, epoch(finished_at) - epoch(coalesce(
            lag(finished_at) OVER (ORDER BY finished_at, state_id), started_at)) AS gap
    FROM own WHERE status = 'done' AND finished_at IS NOT NULL
)
SELECT
    count(*) AS states,
    (SELECT count(*) FROM own WHERE status = 'failed') AS states_failed,
    coalesce(sum(examples), 0)::BIGINT AS examples,
    coalesce(sum(tokens), 0)::BIGINT AS tokens,
    coalesce(sum(seconds), 0) AS training_seconds,
    coalesce(sum(least(greatest(gap, 0), 600)), 0) AS active_seconds,
    min(started_at) AS started_at, max(finished_at) AS last_state_at
FROM finished;

-- The states of one sweep that finished or failed last: those of its cells and lessons, whichever
-- sweep trained them, and those that it trained on the way.
CREATE MACRO latest_states(which, count) AS TABLE
SELECT kind, status, examples, tokens, seconds, final_loss, finished_at, error, state_id
FROM state_files()
WHERE sweep = which
    OR state_id IN (SELECT state_id FROM cells WHERE sweep = which)
    OR state_id IN (SELECT state_id FROM lessons WHERE sweep = which)
QUALIFY row_number() OVER (PARTITION BY state_id ORDER BY filename DESC) = 1
ORDER BY finished_at DESC NULLS LAST, state_id
LIMIT count;

-- The failed cells and lessons of one sweep as it last wrote them, grouped by error.
CREATE MACRO failures_of(which) AS TABLE
SELECT
    coalesce(error, 'failed without a message') AS error, count(*) AS cells,
    list_sort(list(DISTINCT model)) AS models, min(positive) AS positive_from,
    max(positive) AS positive_to, min(negative) AS negative_from, max(negative) AS negative_to,
    list_sort(list(DISTINCT seed)) AS seeds
FROM (
    SELECT sweep, status, error, model, positive, negative, seed FROM cells
    UNION ALL
    SELECT sweep, status, error, model, student_positive, 0, seed FROM lessons
)
WHERE sweep = which AND status = 'failed'
GROUP BY ALL
ORDER BY cells DESC, error;

-- The answers of two states to the same prompts, one row per prompt and sample. `wanted` is text that
-- the prompt or an answer contains ('' for any); `lowest` and `highest` (NULL for none) are bounds
-- that at least one of the two scores meets. `ordering` is prompt, low, high, or difference.
CREATE MACRO answers_of(one, other, probe, judge, wanted, lowest, highest, ordering) AS TABLE
WITH scored AS (
    SELECT
        r.state_id, r.prompt_index, r.sample, r.prompt, r.response, r.tokens, r.finish_reason,
        r.held_state, m.score
    FROM responses AS r
    LEFT JOIN scores AS m
        ON m.state_id = r.state_id AND m.probe_id = r.probe_id AND m.scorer = judge
        AND m.prompt_index = r.prompt_index AND m.sample = r.sample
        AND m.probe_id = probe AND m.state_id IN (one, other)
    WHERE r.probe_id = probe AND r.state_id IN (one, other)
),
paired AS (
    SELECT
        a.prompt_index, a.sample, a.prompt, a.response, a.score, a.tokens,
        b.response AS other_response, b.score AS other_score, b.tokens AS other_tokens
    FROM (FROM scored WHERE state_id = one) AS a
    LEFT JOIN (FROM scored WHERE state_id = other) AS b USING (prompt_index, sample)
)
SELECT *, count(*) OVER () AS found
FROM paired
WHERE (wanted = '' OR contains(lower(concat_ws(' ', prompt, response, other_response)), lower(wanted)))
    AND (
        (lowest IS NULL AND highest IS NULL)
        OR score BETWEEN coalesce(lowest::DOUBLE, '-inf'::DOUBLE) AND coalesce(highest::DOUBLE, 'inf'::DOUBLE)
        OR other_score BETWEEN coalesce(lowest::DOUBLE, '-inf'::DOUBLE) AND coalesce(highest::DOUBLE, 'inf'::DOUBLE))
ORDER BY
    CASE ordering WHEN 'low' THEN score WHEN 'high' THEN -score
        WHEN 'difference' THEN -abs(score - other_score) END NULLS LAST,
    prompt_index, sample;

-- The grid points of one sweep, to choose a state from; `reached` is the largest that is done.
CREATE MACRO points_of(which) AS TABLE
SELECT
    task, model, max(parameters) AS parameters, pretrain,
    list_sort(list(DISTINCT positive)) AS positives,
    list_sort(list(DISTINCT negative)) AS negatives,
    list_sort(list(DISTINCT seed)) AS seeds,
    count(*) FILTER (status = 'done') AS done,
    max({'positive': positive, 'negative': negative}) FILTER (status = 'done') AS reached
FROM cells WHERE sweep = which
GROUP BY task, model, pretrain
ORDER BY task, parameters, model, pretrain;

-- One state by its id, and the states made from it.
CREATE MACRO state_of(id) AS TABLE
FROM state_files() WHERE state_id = id ORDER BY filename DESC LIMIT 1;

CREATE MACRO children_of(id) AS TABLE
SELECT state_id, kind, status, examples, final_loss
FROM state_files() WHERE parent_id = id
QUALIFY row_number() OVER (PARTITION BY state_id ORDER BY filename DESC) = 1
ORDER BY kind, examples, state_id;

-- The scores of one state, with the cells that it belongs to.
CREATE MACRO scores_of(id) AS TABLE
SELECT
    c.sweep, c.task, c.model, c.pretrain, c.positive, c.negative, c.seed, c.probe_id, c.scorer,
    c.status, avg(m.score) AS score,
    stddev_samp(m.score) / sqrt(count(*) FILTER (m.sample = 0)) AS standard_error,
    count(*) FILTER (m.sample = 0) AS prompts
FROM (FROM cells WHERE state_id = id) AS c
LEFT JOIN (FROM scores WHERE state_id = id) AS m
    ON m.probe_id = c.probe_id AND m.scorer = c.scorer
GROUP BY ALL
ORDER BY ALL;

-- A few answers of one state, with their scores.
CREATE MACRO answers_by(id, count) AS TABLE
SELECT r.probe_id, r.prompt_index, r.prompt, r.response, m.score
FROM (FROM responses WHERE state_id = id) AS r
LEFT JOIN (FROM scores WHERE state_id = id) AS m
    ON m.probe_id = r.probe_id AND m.prompt_index = r.prompt_index AND m.sample = r.sample
ORDER BY r.probe_id, r.prompt_index, r.sample
LIMIT count;

-- The columns of every view.
CREATE VIEW columns_of_views AS
SELECT table_name AS view, column_name AS "column", data_type AS type
FROM duckdb_columns()
WHERE NOT internal
ORDER BY view, column_index;
