import type { Classifier } from './classifier/classifier.js';
import type { Decoder } from './decoder/decoder.js';

/** A base model in memory. */
export type LoadedModel = Decoder | Classifier;
