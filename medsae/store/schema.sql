-- Tables of every artifact kind. A comment ends each column; `docs/protocol.md` explains the folders around them.
-- Schema version: 1. A section starts with a line "-- @kind".

-- @cohort
CREATE TABLE image (
    image INTEGER NOT NULL,      -- 0 .. n-1, the row of the source table
    path TEXT NOT NULL,          -- relative to the cohort's root, as the table spells it; may carry a patient number
    patient TEXT NOT NULL,       -- the source's patient; shown only as a salted hash unless switched on
    study TEXT,                  -- the source's study
    source TEXT,                 -- published table or split: train, valid, test, or empty
    split TEXT NOT NULL,         -- train (the SAE is fitted on it), holdout (its history is measured on it), evaluation
    evaluation BOOLEAN NOT NULL, -- part of the balanced evaluation set
    view TEXT,                   -- PA, AP, LATERAL ... or NULL
    frontal BOOLEAN,             -- frontal projection
    sex TEXT,                    -- F, M or NULL
    age DOUBLE,                  -- years
    width INTEGER,               -- px of the stored picture; NULL when pictures were not read
    height INTEGER,              -- px
    sha256 TEXT                  -- of the picture's file
);
CREATE TABLE label (
    image INTEGER NOT NULL,      -- image.image
    label TEXT NOT NULL,         -- name of the label
    value TINYINT                -- 1 present, 0 absent, -1 uncertain, NULL not stated
);
CREATE TABLE label_name (
    position INTEGER NOT NULL,   -- order of the source's columns
    label TEXT NOT NULL,         -- name of the label
    definition TEXT              -- who stated it and what its values mean, where the publisher says so; not in older ones
);
CREATE TABLE attribute (
    image INTEGER NOT NULL,      -- image.image
    attribute TEXT NOT NULL,     -- anything else known of the image; "factor:NAME" is a planted truth (0 or 1)
    value TEXT                   -- as text
);
CREATE TABLE attribute_name (    -- not in cohorts made by older versions
    position INTEGER NOT NULL,   -- order of the source's columns
    attribute TEXT NOT NULL,     -- attribute.attribute
    type TEXT NOT NULL           -- number, category, date or text
);
CREATE TABLE file (              -- pictures found; not in cohorts made by older versions
    path TEXT NOT NULL,          -- relative to the cohort's root
    bytes BIGINT NOT NULL,       -- size
    modified BIGINT NOT NULL     -- time of the last change, nanoseconds since 1970
);
CREATE TABLE box (               -- regions that readers marked; not in cohorts made by older versions
    image INTEGER NOT NULL,      -- image.image
    label TEXT NOT NULL,         -- what is marked, as the publisher names it
    x DOUBLE NOT NULL,           -- px of the original picture, left edge
    y DOUBLE NOT NULL,           -- px, upper edge
    width DOUBLE NOT NULL,       -- px
    height DOUBLE NOT NULL,      -- px
    reader TEXT                  -- who marked it, or NULL
);
CREATE TABLE thumbnail (
    image INTEGER NOT NULL,      -- image.image
    webp BLOB NOT NULL           -- longest side 160 px
);
CREATE TABLE picture (
    image INTEGER NOT NULL,      -- image.image
    jpeg BLOB NOT NULL           -- the full picture, where the cohort has no files of its own (simulated)
);
CREATE TABLE mask (
    image INTEGER NOT NULL,      -- image.image
    finding TEXT NOT NULL,       -- what was planted (simulated), or what readers outlined
    runs INTEGER[] NOT NULL      -- run lengths over the picture's pixels row by row, starting with pixels outside
);
CREATE TABLE refused (
    path TEXT NOT NULL,          -- as the table spells it
    reason TEXT NOT NULL         -- why it cannot be used
);
CREATE TABLE note (
    note TEXT NOT NULL           -- what ingest understood, guessed and could not reach (shortfalls)
);

-- @embeddings
CREATE TABLE embedding_row (
    "row" INTEGER NOT NULL,      -- row of x.npy
    image INTEGER NOT NULL       -- image of the cohort
);

-- @sae
CREATE TABLE history (
    step BIGINT NOT NULL,        -- optimiser steps so far
    epoch INTEGER NOT NULL,      -- passes over the training images so far
    loss DOUBLE,                 -- Eq. 2, mean over images
    mse DOUBLE,                  -- squared error summed over d, mean over images, normalised units
    l1 DOUBLE,                   -- sum of activations, mean over images
    active_share DOUBLE,         -- share of neurons that fire on an image, mean over images (L0 / m)
    fve DOUBLE,                  -- fraction of variance explained
    dead DOUBLE                  -- share of neurons that fired on no image
);
CREATE TABLE dead (
    neuron INTEGER NOT NULL,     -- 0 .. m-1
    dead BOOLEAN NOT NULL        -- fires on no training image
);

-- @scores
CREATE TABLE neuron (
    neuron INTEGER NOT NULL,     -- 0 .. m-1
    active BIGINT,               -- scored images with an activation other than 0
    density DOUBLE,              -- share of scored images with an activation other than 0
    mean DOUBLE,                 -- of activations over all scored images
    std DOUBLE,                  -- population standard deviation
    min DOUBLE,                  -- smallest activation
    max DOUBLE,                  -- largest activation
    entropy DOUBLE,              -- bits, Eq. 5; NULL when undefined (reason says why)
    entropy_normalised DOUBLE,   -- entropy / log2 of the number of labels with a defined rho, 0 .. 1
    labels_defined INTEGER,      -- labels with a defined rho
    entropy_null_mean DOUBLE,    -- bits, this neuron under shuffled labels
    entropy_null_sd DOUBLE,      -- bits
    max_abs_rho DOUBLE,          -- strongest |rho| over labels
    top_label TEXT,              -- label of the strongest |rho|
    top_rho DOUBLE,              -- its rho with sign
    p DOUBLE,                    -- of the closest label: pooled permutation null, below 0.05 the tail of its own null
    q DOUBLE,                    -- Benjamini-Hochberg over the defined neurons
    selective BOOLEAN,           -- q at or below the false-discovery rate
    selective_label TEXT,        -- the label whose rho is hardest to explain by chance
    reason TEXT                  -- why entropy is NULL: dead, constant, no defined label ...
);
CREATE TABLE correlation (
    neuron INTEGER NOT NULL,     -- neuron.neuron
    label TEXT NOT NULL,         -- name of the label
    rho DOUBLE,                  -- Pearson, Eq. 3; NULL when undefined
    n INTEGER NOT NULL,          -- images with this label known
    low DOUBLE,                  -- 95 % interval (Fisher z)
    high DOUBLE,
    reason TEXT                  -- why rho is NULL
);
CREATE TABLE activation (
    neuron INTEGER NOT NULL,     -- neuron.neuron; the table is sorted by neuron, value descending
    image INTEGER NOT NULL,      -- image of the cohort
    value FLOAT NOT NULL         -- all non-zeros of an SAE; the top and bottom images of a dense neuron
);
CREATE TABLE token (             -- empty unless the embeddings have tokens
    neuron INTEGER NOT NULL,     -- neuron.neuron; its 24 top images
    image INTEGER NOT NULL,      -- image of the cohort
    cell INTEGER NOT NULL,       -- cell of the encoder's grid (facts.grid: rows, columns), row by row from the top left
    value FLOAT NOT NULL         -- activation on that cell; the 16 largest of an image, those above 0
);
CREATE TABLE histogram (
    neuron INTEGER NOT NULL,     -- neuron.neuron
    bin INTEGER NOT NULL,        -- 0 ..
    low DOUBLE NOT NULL,         -- left edge, activation units
    high DOUBLE NOT NULL,        -- right edge
    count INTEGER NOT NULL       -- images; zeros of an SAE are not counted (see density)
);
CREATE TABLE scored (
    image INTEGER NOT NULL       -- images these scores were taken over
);
CREATE TABLE summary (
    measure TEXT NOT NULL,       -- name of the measure
    value DOUBLE,                -- NULL when undefined
    low DOUBLE,                  -- 95 % interval, or NULL
    high DOUBLE,
    n BIGINT,                    -- over how many (neurons, images ...: the note says)
    note TEXT                    -- what it is over, unit, reason when NULL
);
CREATE TABLE null_histogram (
    bin INTEGER NOT NULL,        -- 0 ..
    low DOUBLE NOT NULL,         -- left edge, bits
    high DOUBLE NOT NULL,        -- right edge, bits
    observed DOUBLE NOT NULL,    -- share of the defined neurons in the bin as observed
    mean DOUBLE NOT NULL,        -- mean share of defined neurons in the bin under shuffled labels
    low_share DOUBLE NOT NULL,   -- 2.5 % over draws
    high_share DOUBLE NOT NULL   -- 97.5 % over draws
);
CREATE TABLE draw (
    kind TEXT NOT NULL,          -- bootstrap or permutation
    draw INTEGER NOT NULL,       -- 0 ..; bootstrap draws with the same seed resample the same patients
    mean_entropy DOUBLE,         -- bits, over all defined neurons
    mean_entropy_strong DOUBLE   -- bits, over neurons with max |rho| > 0.2
);
CREATE TABLE label_summary (
    label TEXT NOT NULL,         -- name of the label
    positives INTEGER NOT NULL,  -- among the scored images, as written
    negatives INTEGER NOT NULL,
    uncertain INTEGER NOT NULL,
    unstated INTEGER NOT NULL,
    used INTEGER NOT NULL,       -- images that enter rho under the label policy
    best_neuron_rho INTEGER,     -- neuron of the strongest |rho|
    rho DOUBLE,                  -- its rho
    best_neuron_auroc INTEGER,   -- neuron with the best AUROC (either direction)
    auroc DOUBLE,                -- its AUROC, same images it was chosen on
    low DOUBLE,                  -- 95 % interval
    high DOUBLE,
    direction INTEGER,           -- 1: high activation means present, -1: absent
    half_neuron INTEGER,         -- the best neuron when only half of the patients choose
    half_direction INTEGER,      -- its direction
    auroc_choosing_half DOUBLE,  -- its AUROC on the half that chose it
    auroc_other_half DOUBLE,     -- its AUROC on the other half: the number to believe
    other_half_low DOUBLE,       -- 95 % interval of it
    other_half_high DOUBLE,      -- 95 % interval of it
    rho_low DOUBLE,              -- 95 % interval of rho (Fisher z)
    rho_high DOUBLE,             -- 95 % interval of rho
    floor DOUBLE,                -- bits: entropy of a detector that is never wrong about the label
    partial_floor DOUBLE,        -- bits: the same for partial correlations; NULL for No Finding
    reason TEXT                  -- why NULL
);
CREATE TABLE measure (
    measure TEXT NOT NULL,       -- name of a declared measure (plugins.Measure): a row of summary or of neuron_measure
    label TEXT NOT NULL,         -- what a page calls it
    unit TEXT NOT NULL,          -- bits, nats, share or number
    meaning TEXT NOT NULL,       -- one sentence
    of TEXT NOT NULL,            -- profiles (taken of every draw), scored (once), neurons (one value a neuron), sae (a fact of the SAE)
    over TEXT,                   -- what n counts
    null_measure TEXT,           -- the row of summary with the same under shuffled labels
    null_value DOUBLE            -- what shuffled labels give where that needs no draws
);
CREATE TABLE neuron_measure (
    neuron INTEGER NOT NULL,     -- neuron.neuron
    measure TEXT NOT NULL,       -- measure.measure
    value DOUBLE                 -- in the measure's unit; NULL when undefined
);
CREATE TABLE draw_measure (
    kind TEXT NOT NULL,          -- bootstrap or permutation
    draw INTEGER NOT NULL,       -- 0 ..; as in draw
    measure TEXT NOT NULL,       -- measure.measure
    value DOUBLE                 -- NULL when undefined in this draw
);
CREATE TABLE entropy_curve (
    left_out INTEGER NOT NULL,   -- the tenth of the patients that is left out (jackknife); -1: none
    parts INTEGER NOT NULL,      -- into how many parts the others are cut: 1, 2 or 5
    images DOUBLE NOT NULL,      -- pictures a part
    mean_entropy DOUBLE,         -- bits (Eq. 5) over neurons that fire on 10 pictures of all or more; of each the mean over parts
    neurons DOUBLE               -- neurons that this mean is over
);
CREATE TABLE recovery (
    factor TEXT NOT NULL,        -- planted factor
    positives INTEGER NOT NULL,  -- images with it
    negatives INTEGER NOT NULL,  -- images known to be without
    neuron INTEGER,              -- best neuron by activation, chosen on half of the patients
    activation DOUBLE,           -- its AUROC on the other half
    activation_low DOUBLE,       -- 95 % interval
    activation_high DOUBLE,      -- 95 % interval
    preactivation_neuron INTEGER, -- best by pre-activation (of an SAE), chosen on half of the patients
    preactivation DOUBLE,        -- its AUROC on the other half
    preactivation_low DOUBLE,    -- 95 % interval
    preactivation_high DOUBLE,   -- 95 % interval
    raw_neuron INTEGER,          -- best raw neuron, chosen on half of the patients
    raw DOUBLE,                  -- its AUROC on the other half
    raw_low DOUBLE,              -- 95 % interval
    raw_high DOUBLE,             -- 95 % interval
    random_neuron INTEGER,       -- best of as many random directions, chosen on half of the patients
    random DOUBLE,               -- its AUROC on the other half
    random_low DOUBLE,           -- 95 % interval
    random_high DOUBLE,          -- 95 % interval
    reason TEXT                  -- why the numbers are NULL
);
CREATE TABLE attribute_correlation (
    neuron INTEGER NOT NULL,     -- neuron.neuron
    attribute TEXT NOT NULL,     -- view, sex, age: what a neuron may follow instead of a finding
    value TEXT NOT NULL,         -- one value of it, against all others
    rho DOUBLE,                  -- Pearson with "has this value"
    n INTEGER NOT NULL,          -- images whose attribute is known
    low DOUBLE,                  -- 95 % interval (Fisher z)
    high DOUBLE,                 -- 95 % interval
    reason TEXT                  -- why rho is NULL
);
CREATE TABLE confounded (
    neuron INTEGER NOT NULL,     -- neuron.neuron
    label TEXT,                  -- the label that it follows most (neuron.top_label)
    n INTEGER NOT NULL,          -- images with this label known
    rho DOUBLE,                  -- Pearson
    low DOUBLE,                  -- 95 % interval, by patient
    high DOUBLE,                 -- 95 % interval
    within TEXT,                 -- the largest stratum of the first attribute: its name and value
    within_n INTEGER,            -- images in it
    within_rho DOUBLE,           -- Pearson in it; NULL where fewer than 10 images have, or lack, the label
    attributes TEXT,             -- what is held, separated by ", "
    given DOUBLE,                -- partial correlation given all of them
    given_low DOUBLE,            -- 95 % interval, by patient
    given_high DOUBLE,           -- 95 % interval
    fall DOUBLE,                 -- rho - given, in the direction of rho
    fall_low DOUBLE,             -- 95 % interval, by patient
    fall_high DOUBLE,            -- 95 % interval
    null_fall DOUBLE,            -- the largest fall of 20 shuffles of the attributes between patients
    verdict TEXT,                -- by rule: holds, partly X, follows X, no settled correlation
    reason TEXT                  -- why NULL
);
CREATE TABLE given (
    neuron INTEGER NOT NULL,     -- neuron.neuron
    attribute TEXT NOT NULL,     -- what is held, alone
    label TEXT NOT NULL,         -- the label that the neuron follows most
    rho DOUBLE,                  -- partial correlation given this attribute
    low DOUBLE,                  -- 95 % interval, by patient
    high DOUBLE                  -- 95 % interval
);
CREATE TABLE readout (
    position INTEGER NOT NULL,   -- column of readout.npy
    label TEXT NOT NULL,         -- what is read out
    kind TEXT NOT NULL,          -- probe (logistic regression on training patients) or text (zero-shot direction)
    n INTEGER,                   -- training images that a probe was fitted on
    positives INTEGER,           -- of them with the label
    penalty DOUBLE,              -- ridge penalty, chosen on a fifth of the training patients
    constant DOUBLE,             -- score of what the SAE rebuilds of no neuron
    auroc DOUBLE,                -- of the score on the scored images
    low DOUBLE,                  -- 95 % interval, by patient
    high DOUBLE,                 -- 95 % interval
    null_high DOUBLE,            -- 95 % of directions drawn at random with the embeddings' spread have a lower AUROC
    reason TEXT                  -- why NULL
);
CREATE TABLE effect (
    neuron INTEGER NOT NULL,     -- neuron.neuron
    position INTEGER NOT NULL,   -- readout.position
    effect DOUBLE NOT NULL,      -- what one unit of activation adds to the score (probe: log odds; text: cosine)
    typical DOUBLE,              -- effect times the mean activation on the images that fire
    low DOUBLE,                  -- 95 % interval of typical, from fitting the probe; NULL for text
    high DOUBLE,                 -- 95 % interval
    fall DOUBLE,                 -- AUROC of the read-out minus the same with the neuron at 0 (or at any one value)
    null_fall DOUBLE,            -- median fall of the 20 neurons that fire about as often
    null_most DOUBLE,            -- largest fall of them
    alone DOUBLE                 -- AUROC of what this neuron alone adds
);
CREATE TABLE term (
    position INTEGER NOT NULL,   -- column of lens.npy, row of terms.npy
    kind TEXT NOT NULL,          -- finding, device, position, artefact, own
    term TEXT NOT NULL,          -- words, as they were given to the encoder's text tower
    null_high DOUBLE NOT NULL,   -- 95 % of 1,000 directions drawn at random have a smaller cosine with it
    null_most DOUBLE NOT NULL    -- the largest cosine of them
);
CREATE TABLE lens (
    neuron INTEGER NOT NULL,     -- neuron.neuron
    rank INTEGER NOT NULL,       -- 1: the nearest term
    position INTEGER NOT NULL,   -- term.position
    cosine DOUBLE NOT NULL,      -- of the neuron's decoder row with the term
    p DOUBLE NOT NULL            -- share of random directions whose nearest term is as near as this neuron's
);
CREATE TABLE neighbour (
    neuron INTEGER NOT NULL,     -- neuron.neuron
    rank INTEGER NOT NULL,       -- 1 ..
    other INTEGER NOT NULL,      -- the neighbour
    measure TEXT NOT NULL,       -- decoder (cosine of decoder rows) or coactivation (cosine of activations)
    value DOUBLE NOT NULL        -- -1 .. 1
);
CREATE TABLE cell (
    neuron INTEGER NOT NULL,     -- neuron.neuron; its strongest images, where the encoder's embedding is a sum over cells
    image INTEGER NOT NULL,      -- image of the cohort
    map BLOB NOT NULL,           -- int8, a byte a cell, row by row from the top left: value = byte * scale
    scale FLOAT NOT NULL,        -- pre-activation units
    constant FLOAT NOT NULL      -- sum of the map + constant = pre-activation (in float32)
);
CREATE TABLE cell_grid (
    rows INTEGER NOT NULL,       -- cells from top to bottom
    columns INTEGER NOT NULL,    -- cells from left to right
    first_px DOUBLE NOT NULL,    -- where the first cell lies, px of the network's input
    step_px DOUBLE NOT NULL,     -- from one cell to the next, px of the network's input
    reach_px INTEGER NOT NULL,   -- side of what one cell can see, px of the network's input
    size_px INTEGER NOT NULL,    -- side of the network's input
    how TEXT NOT NULL            -- what the maps are
);
CREATE TABLE cell_average (      -- not in older scores, nor of tokens
    neuron INTEGER NOT NULL,     -- neuron.neuron
    map BLOB NOT NULL,           -- as cell.map: its mean over the cohort, which is taken off its maps
    scale FLOAT NOT NULL         -- pre-activation units
);
CREATE TABLE deletion (          -- part of a picture replaced by the mean of images on which the neuron is silent; not in older scores
    neuron INTEGER NOT NULL,     -- neuron.neuron
    drawn BOOLEAN NOT NULL,      -- drawn by chance (the measures of summary are over these), or the best of a label
    n INTEGER NOT NULL,          -- of its strongest images, one a patient
    fall DOUBLE,                 -- mean fall of the pre-activation, as a share of it, with its map's region replaced
    low DOUBLE,                  -- 95 % interval, bootstrap by patient
    high DOUBLE,                 -- 95 % interval
    other DOUBLE,                -- with the region of another firing neuron's map
    random DOUBLE,               -- with a region that grew in noise
    minus_other DOUBLE,          -- fall - other
    minus_low DOUBLE,            -- 95 % interval, bootstrap by patient
    minus_high DOUBLE,           -- 95 % interval
    reason TEXT                  -- why NULL
);
CREATE TABLE localisation (
    finding TEXT NOT NULL,       -- planted factor, or what readers marked
    source TEXT,                 -- planted, or readers (boxes and masks of the publisher); not in older ones: planted
    representation TEXT NOT NULL, -- sae, raw, random: whose best neuron
    neuron INTEGER NOT NULL,     -- chosen on the other half of the patients
    n INTEGER NOT NULL,          -- images that have the finding and on which the neuron fires
    hit DOUBLE,                  -- share of them whose strongest cell lies inside the finding's mask
    low DOUBLE,                  -- 95 % interval, bootstrap by patient
    high DOUBLE,                 -- 95 % interval
    place DOUBLE,                -- the same for another firing neuron on the same images
    exchanged DOUBLE,            -- the same with the neuron's maps exchanged among the images
    p DOUBLE,                    -- share of exchanges that hit as often, one-sided
    mean_mask DOUBLE,            -- the same for the finding's most frequent place on other patients
    area DOUBLE,                 -- mean share of the image that the mask covers
    mass DOUBLE,                 -- share of the positive map inside the mask over its area; 1: no preference
    reason TEXT                  -- why NULL
);
CREATE TABLE place (             -- the map of neurons (of an SAE); not in scores made by older versions
    neuron INTEGER NOT NULL,     -- neuron.neuron; those that fire on a scored image
    x DOUBLE NOT NULL,           -- t-SNE of decoder directions, -1 .. 1; only which ones lie together means something
    y DOUBLE NOT NULL            -- the same, upwards
);
CREATE TABLE match (
    neuron INTEGER NOT NULL,     -- neuron.neuron; only with --versus, live neurons of both SAEs
    other INTEGER NOT NULL,      -- its partner in the other SAE (one to one, Hungarian method)
    cosine DOUBLE NOT NULL       -- of their decoder rows
);

-- @pairs
CREATE TABLE factor (
    position INTEGER NOT NULL,   -- order of the table that cohorts are drawn from
    parts BOOLEAN NOT NULL,      -- false: a finding whatever its place; true: sides and lobes apart
    factor TEXT NOT NULL,        -- as "factor:NAME" of a cohort's attributes
    finding TEXT NOT NULL,       -- the factor without its place
    severities INTEGER NOT NULL  -- severities that were drawn; 1 for what has none
);
CREATE TABLE drawn (
    image INTEGER NOT NULL,      -- image of the cohort whose patient, pose and noise were drawn again
    patient TEXT NOT NULL,       -- its patient, as in the cohort
    chooses BOOLEAN NOT NULL,    -- of the half that chooses the best neuron; the others judge it
    reproduced BOOLEAN NOT NULL  -- drawn with nothing changed, it is the cohort's picture to the byte
);
CREATE TABLE moved (
    representation TEXT NOT NULL, -- sae or raw
    parts BOOLEAN NOT NULL,      -- as in factor: specificity is a share among its rows
    factor TEXT NOT NULL,        -- factor.factor
    neuron INTEGER NOT NULL,     -- neurons that some factor moves; the others have no row
    change DOUBLE NOT NULL,      -- activation with the factor minus without it, mean over patients and severities
    low DOUBLE,                  -- 95 % interval, by patient (Student)
    high DOUBLE,                 -- 95 % interval
    specificity DOUBLE,          -- |change| as a share of the sum over all factors, 0 .. 1
    follows DOUBLE,              -- share of pairs in which the activation rises minus share in which it falls, -1 .. 1
    monotone DOUBLE              -- |last - first| over the way of the mean activation over severities; NULL without any
);
CREATE TABLE best (
    representation TEXT NOT NULL, -- sae, raw, random, untrained
    parts BOOLEAN NOT NULL,      -- as in factor
    factor TEXT NOT NULL,        -- factor.factor
    neuron INTEGER,              -- chosen on half of the patients: largest specificity times |follows|, change settled
    recovery DOUBLE,             -- specificity times follows on the other patients; 1: in every pair, and nothing else
    low DOUBLE,                  -- 95 % interval of recovery, bootstrap by patient
    high DOUBLE,                 -- 95 % interval
    specificity DOUBLE,          -- on the other patients, in the direction in which it was chosen: -1 .. 1
    follows DOUBLE,              -- share of their pairs that move in that direction minus share that move against it
    change DOUBLE,               -- mean change on the other patients, activation units
    monotone DOUBLE,             -- as in moved
    reason TEXT                  -- why NULL
);
CREATE TABLE overall (
    representation TEXT NOT NULL, -- sae, raw, random, untrained
    parts BOOLEAN NOT NULL,      -- as in factor
    recovery DOUBLE NOT NULL,    -- mean over the factors of the best neuron's; a factor without one counts 0
    low DOUBLE,                  -- 95 % interval, bootstrap by patient
    high DOUBLE,                 -- 95 % interval
    specificity DOUBLE NOT NULL, -- the same mean of specificity alone
    found INTEGER NOT NULL,      -- factors with a best neuron
    factors INTEGER NOT NULL     -- factors
);
CREATE TABLE dose (
    representation TEXT NOT NULL, -- sae, raw, random, untrained
    parts BOOLEAN NOT NULL,      -- as in factor
    factor TEXT NOT NULL,        -- factor.factor; of its best neuron
    neuron INTEGER NOT NULL,     -- best.neuron
    step INTEGER NOT NULL,       -- 0: without the factor; 1 ..: its severities
    severity DOUBLE,             -- 0 .. 1; NULL: without the factor, or it has none
    mean DOUBLE NOT NULL         -- activation, mean over the patients
);
CREATE TABLE example (
    factor TEXT NOT NULL,        -- factor.factor, sides and lobes apart
    image INTEGER NOT NULL,      -- drawn.image
    severity DOUBLE,             -- NULL: without the factor
    webp BLOB NOT NULL           -- longest side 160 px
);
