import { type MachineProfile, ProductError, SESSION_LORA_ALPHA, type SessionModelSpec } from '@lorasmith/contracts';
import { type DecoderArchitecture, layerLinears, type ModelFolder } from '@lorasmith/model-folder';
import { adaptedLayers } from './estimate/adapted-layers.js';
import { adapterMemory, availableMemory, fewestRecomputed } from './estimate/estimate-job.js';
import { decoderMemory, type MemoryNeeds } from './estimate/estimate-memory.js';
import { gigabytes } from './estimate/settings-for-less-memory.js';
import { FaultList } from './fault-list.js';
import { type Target, withRanks } from './targets.js';

export interface PlanSessionOptions {
  spec: SessionModelSpec;
  model: ModelFolder;
  precision: 'float32' | 'bfloat16';
  /** The measurements of the machine that trains; null: it was not measured, and nothing is estimated. */
  machine: MachineProfile | null;
}

/** A training session before it is open. */
export interface SessionPlan {
  architecture: DecoderArchitecture;
  targets: Target[];
  /** The memory for micro-batches of the tokens of a pass; null where nothing is estimated. */
  needs: MemoryNeeds | null;
  /** See Pass in models; of micro-batches of the tokens of a pass. */
  recomputedLayers: number;
}

/**
 * Chooses what a training session adapts, and the memory that it needs.
 * @throws ProductError invalid_job for a model that is no language model, or where nothing is adapted; does_not_fit
 */
export function planSession({ spec, model, precision, machine }: PlanSessionOptions): SessionPlan {
  const { architecture } = model;
  if (architecture.kind !== 'decoder') {
    const message = `${model.name} is a classifier. A training session trains a language model.`;
    throw new ProductError('invalid_job', message, { param: 'base_model' });
  }
  const targets = targetsOf(spec, model, architecture);
  if (machine === null) return { architecture, targets, needs: null, recomputedLayers: 0 };
  const tokens = machine.pass_tokens;
  const load = { mostTokens: tokens, mostLabels: tokens, longestRow: Math.min(tokens, architecture.maxPositions) };
  const job = { model, architecture, targets, machine, precision, optimizer: 'adamw' as const, dropout: 0 };
  const needsOf = (recomputedLayers: number): MemoryNeeds => ({
    settings: adapterMemory({ ...job, recomputedLayers }),
    load,
    evaluation: null,
  });
  const available = availableMemory(machine);
  const peak = (recomputedLayers: number) => machine.base_memory_bytes + decoderMemory(needsOf(recomputedLayers));
  const layers = adaptedLayers(architecture, targets);
  const recomputedLayers = fewestRecomputed(layers, (count) => peak(count) <= available);
  if (peak(recomputedLayers) > available) {
    const needed = `The session needs about ${gigabytes(peak(recomputedLayers))}; ${machine.worker} has ${gigabytes(available)} for it.`;
    const advice = 'Use a lower rank, a smaller base model, or a machine with more memory.';
    throw new ProductError('does_not_fit', `${needed} ${advice}`, { param: 'rank' });
  }
  return { architecture, targets, needs: needsOf(recomputedLayers), recomputedLayers };
}

/** The linear layers of a session. Routers, and the experts of a mixture, are left as they are. */
function targetsOf(spec: SessionModelSpec, model: ModelFolder, architecture: DecoderArchitecture): Target[] {
  const names = new Set<string>();
  for (let layer = 0; layer < architecture.layerCount; layer++) {
    const { mixer, mlp, sharedGate } = layerLinears(architecture, layer);
    const ofMixer = [...mixer.inputs, ...mixer.between, mixer.output];
    const ofMlp = mlp === null ? [] : [...mlp.gateUp, mlp.down, ...(sharedGate === null ? [] : [sharedGate])];
    for (const { name } of [...(spec.train_attn ? ofMixer : []), ...(spec.train_mlp ? ofMlp : [])]) names.add(name);
  }
  const head = spec.train_unembed && model.headModule !== null ? [model.headModule] : [];
  const layers = [...model.modules.filter(({ name }) => names.has(name)), ...head];
  if (layers.length === 0) {
    const message = 'The session trains nothing: set train_attn, train_mlp or train_unembed.';
    throw new ProductError('invalid_job', message, { param: 'train_attn' });
  }
  const patterns = { rank_pattern: {}, alpha_pattern: {}, use_rslora: false };
  const faults = new FaultList();
  const targets = withRanks(layers, { r: spec.rank, alpha: SESSION_LORA_ALPHA, ...patterns }, faults);
  faults.throwIfAny();
  return targets;
}
