import { type Static, Type } from 'typebox';
import { Fault } from './error.js';
import { COMPLETION_FORMATS, closed, count, DatasetId, Nullable } from './schema-parts.js';

/** Most tokens of the first row in a report. */
export const MAX_RENDERED_TOKENS = 512;

/** The outcome for the rows of a dataset that are too long. */
const lengthHandling = {
  overflowed: count('Rows longer than max_seq_length.'),
  dropped: count('Rows left out by on_overflow drop, or because truncation left no trained token.'),
  truncated: count('Rows cut at max_seq_length.'),
  split: count('Rows cut into several sequences.'),
  longest: count('Tokens of the longest row before overflow handling.'),
};

const RenderedPart = Type.Object(
  { text: Type.String(), trained: Type.Boolean({ description: 'Whether its tokens are targets of the loss.' }) },
  closed,
);

/** The first row of a dataset as the model reads it. */
export const RenderedRow = Type.Object(
  {
    completion_format: Nullable(Type.Enum([...COMPLETION_FORMATS]), {
      description:
        'How prompt and completion, or instruction and output, are written: text also where the model has no chat template. Null for rows of other formats.',
    }),
    first_row: Type.Array(RenderedPart, {
      description: `Its text, with the special tokens, up to ${MAX_RENDERED_TOKENS} tokens; of a pair the prompt with the chosen answer. Empty in the manifest of an adapter.`,
    }),
    rejected: Type.Optional(
      Type.Array(RenderedPart, { description: 'The prompt with the rejected answer. Only of a pair.' }),
    ),
    label: Type.Optional(Type.Boolean({ description: 'Its label. Only of an answer with one.' })),
  },
  { $id: 'RenderedRow', ...closed },
);
export type RenderedRow = Static<typeof RenderedRow>;

/** The plan of a job, before it starts. `POST /jobs?dry_run=true` returns it. */
export const Report = Type.Object(
  {
    base_model: Type.String(),
    family: Type.String({ description: 'Architecture family, such as llama.' }),
    precision: Type.Object(
      {
        chosen: Nullable(Type.Enum(['float32', 'bfloat16']), {
          description: 'Null in a dry run with `auto` until a worker has measured its machine.',
        }),
        reason: Type.String(),
      },
      closed,
    ),
    parameters: Type.Object(
      {
        trained: count('Number of parameters in A and B over all targets.'),
        total: count('Number of parameters of base and adapter together.'),
        trained_percent: Type.Number({ minimum: 0, description: '100 × trained / total.' }),
        adapted_percent: Type.Optional(
          Type.Number({
            minimum: 0,
            description: "Share of the base model's parameters that are in adapted layers and experts, in percent.",
          }),
        ),
        modules: Type.Array(Type.String(), { description: 'Full names of the adapted layers and parameters.' }),
      },
      closed,
    ),
    rows: Type.Object(
      {
        total: count('Rows in the dataset.'),
        training: count('Sequences trained on, after overflow and the validation split.'),
        validation: count('Sequences to evaluate on: held out, or of the validation dataset.'),
        ...lengthHandling,
      },
      closed,
    ),
    validation_dataset: Nullable(
      Type.Object(
        {
          id: DatasetId,
          rows: count('Rows in the validation dataset.'),
          ...lengthHandling,
        },
        closed,
      ),
      { description: 'Null without validation.dataset.' },
    ),
    rendered: Nullable(RenderedRow, { description: 'Null for a classifier, whose rows are numbers.' }),
    tokens: Type.Object(
      {
        per_epoch: count('Tokens read in one pass over the training rows (for a classifier: rows).'),
        trained_per_epoch: count('Trained tokens in one pass.'),
        total: count('Tokens that all steps of the job read.'),
        validation: count('Tokens of the sequences to evaluate on.'),
      },
      closed,
    ),
    preference: Type.Optional(
      Type.Object(
        {
          pairs: count('Pairs of answers that are trained on.'),
          reference_accuracy: Nullable(Type.Number({ minimum: 0, maximum: 1 }), {
            description:
              'Share of them whose chosen answer the reference already finds more likely. Null until it is computed, and for a loss without a reference.',
          }),
        },
        { $id: 'ReportPreference', ...closed, description: 'Only of a job on pairs of answers.' },
      ),
    ),
    labels: Type.Optional(
      Type.Object(
        {
          desirable: count('Answers with the label true that are trained on.'),
          undesirable: count('Those with the label false.'),
        },
        { $id: 'ReportLabels', ...closed, description: 'Only of a job on answers with a label.' },
      ),
    ),
    groups: Type.Optional(
      Type.Object(
        {
          prompts: count('Prompts that are trained on.'),
          answers_per_step: count('Answers that are sampled and graded for a step with new answers.'),
          most_tokens_per_step: count('Tokens of these answers, if each is as long as it may be.'),
        },
        { $id: 'ReportGroups', ...closed, description: 'Only of a job whose answers are sampled.' },
      ),
    ),
    steps: Type.Object(
      {
        per_epoch: count('Optimizer steps in one pass.'),
        total: count('Optimizer steps of the job.'),
        warmup: count('Steps in which the learning rate rises.'),
      },
      closed,
    ),
    estimate: Nullable(
      Type.Object(
        {
          machine: Type.String({ description: 'The worker whose machine was measured.' }),
          peak_memory_bytes: count(
            "Expected peak of the trainer: of the GPU's memory if it trains on one, otherwise of the process.",
          ),
          added_memory_bytes: count(
            'What the job adds to a trainer that trains other jobs on the same base model, in shared passes of up to 1,024 tokens.',
          ),
          available_memory_bytes: count(
            'Memory available to the trainer: of the GPU, otherwise of the container or the machine.',
          ),
          seconds_per_step: Type.Number({ minimum: 0, description: 'Average of an optimizer step.' }),
          total_seconds: Type.Number({
            minimum: 0,
            description:
              'Training, evaluations and samples, without loading the model and publishing. Answers are expected to be as long as they may be before training, then as long as those of the rows.',
          }),
          recomputed_layers: count(
            'Layers that the backward pass computes again to save memory. Beside other jobs it is all of them, or none.',
          ),
        },
        closed,
      ),
      { description: 'Expected memory and time; null until a worker has measured its machine.' },
    ),
    publish: Type.Enum(['last', 'best'], { description: 'Which state becomes the adapter; best is by evaluation.' }),
    adapter_bytes: count(
      'Upper limit of the size of the adapter: float32, every layer with the largest rank, and the files beside the weights.',
    ),
    warnings: Type.Array(Fault),
  },
  { $id: 'Report', ...closed },
);
export type Report = Static<typeof Report>;
