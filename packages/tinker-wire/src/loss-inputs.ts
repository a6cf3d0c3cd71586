import { SESSION_LOSSES, type SessionLoss } from '@lorasmith/contracts';
import { quoted, WireError } from './wire-error.js';

/** The names of the inputs and settings that a loss knows, besides `target_tokens`. */
interface LossInputs {
  needs: readonly string[];
  mayHave: readonly string[];
  settings: readonly string[];
  /** True if a position may have several targets. */
  isSoft: boolean;
}

const THRESHOLDS = ['clip_low_threshold', 'clip_high_threshold'];
const SAMPLED = { needs: ['logprobs', 'advantages'], mayHave: [], settings: [], isSoft: false };
const CLIPPED = { ...SAMPLED, mayHave: THRESHOLDS, settings: THRESHOLDS };

/** The inputs of each loss. The cookbook of the client sends `weights` with cross_entropy alone, and no `mask`. */
export const LOSS_INPUTS: Readonly<Record<SessionLoss, LossInputs>> = {
  cross_entropy: { needs: [], mayHave: ['weights'], settings: [], isSoft: true },
  importance_sampling: SAMPLED,
  ppo: CLIPPED,
  cispo: CLIPPED,
  dro: { ...SAMPLED, settings: ['beta'] },
  gspo: { ...CLIPPED, mayHave: [...THRESHOLDS, 'sequence_ratio_mask'] },
};

/** @throws {WireError} for a loss that is not served */
export function checkLoss(name: string): SessionLoss {
  const loss = SESSION_LOSSES.find((known) => known === name);
  if (loss !== undefined) return loss;
  if (name === 'stable_reinforce') {
    throw new WireError(
      'loss_fn',
      '"stable_reinforce" is not supported: train with loss_fn=ppo or importance_sampling',
    );
  }
  if (name.startsWith('custom')) {
    throw new WireError('loss_fn', `${quoted(name)} is not supported: give forward_backward_custom a function`);
  }
  throw new WireError('loss_fn', `${quoted(name)} is not known: the losses are ${SESSION_LOSSES.join(', ')}`);
}
