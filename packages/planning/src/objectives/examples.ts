import type { FeatureExamples } from './classification/feature-examples.js';
import type { PromptExamples } from './group-relative/prompt-examples.js';
import type { LabelledExamples } from './labelled/labelled-examples.js';
import type { TokenExamples } from './next-token/token-examples.js';
import type { PairExamples } from './preference/pair-examples.js';

/** The examples of a job. The `kind` is that of the objective. */
export type Examples = TokenExamples | FeatureExamples | PairExamples | LabelledExamples | PromptExamples;
