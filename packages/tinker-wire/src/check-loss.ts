import { SESSION_LOSSES, type SessionLoss } from '@lorasmith/contracts';
import { quoted, WireError } from './wire-error.js';

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
