import {
  type DecoderArchitecture,
  type GgufModel,
  type LayerAttention,
  mixersOf,
  type RopeSettings,
} from '@lorasmith/model-folder';
import { float, type RefuseIf, type Setting, uint } from '../metadata-setting.js';

/** The model that llama.cpp computes for a family, and what its files say. One that is data alone stands in the family's own file. */
export interface GgufFamily extends GgufModel {
  /** The factor of the attention scores; null: the file says it. @defaultValue 1 / √headDim */
  scoreScale?(architecture: DecoderArchitecture): number | null;
  /** The settings in addition to those of every decoder. @defaultValue none */
  settings?(architecture: DecoderArchitecture): Setting[];
  /** Checks that llama.cpp computes windows, positions and what else is the family's own. @defaultValue checkOneRope */
  check?(architecture: DecoderArchitecture, refuseIf: RefuseIf): void;
}

/** Checks that all layers have positions, by the same frequencies. */
export function checkOneRope({ ropes }: DecoderArchitecture, refuseIf: RefuseIf): void {
  refuseIf(ropes.length !== 1 || ropes[0] === null, 'layers without positions');
}

/** The window, the layers that have it, and the base of their rotary frequencies; nothing where no layer has one. */
export function windowSettings(architecture: DecoderArchitecture): Setting[] {
  const { ropes } = architecture;
  const layers = mixersOf(architecture, 'attention');
  const windowed = layers.find(({ window }) => window !== null);
  if (windowed === undefined) return [];
  const pattern = layers.map(({ window }) => window !== null);
  const rope = ropes[windowed.rope];
  return [
    ['attention.sliding_window', uint(windowed.window!)],
    ['attention.sliding_window_pattern', { type: 'bools', value: pattern }],
    ...(rope ? ([['rope.freq_base_swa', float(rope.theta)]] as Setting[]) : []),
  ];
}

/** The rotary settings of layers without a window, and of those with one; undefined where there are no such layers. */
interface RopesByWindow {
  ofFull: RopeSettings | null | undefined;
  ofWindowed: RopeSettings | null | undefined;
}

/** Checks that layers with a window have one of the same size, and that layers of a kind have the same positions. */
export function ropesByWindow(architecture: DecoderArchitecture, refuseIf: RefuseIf): RopesByWindow {
  const { ropes } = architecture;
  const layers = mixersOf(architecture, 'attention');
  const windows = layers.flatMap(({ window }) => (window === null ? [] : [window]));
  refuseIf(new Set(windows).size > 1, 'attention windows of several sizes');
  const ropesOf = (isOne: (layer: LayerAttention) => boolean) => [
    ...new Set(layers.filter(isOne).map(({ rope }) => rope)),
  ];
  const [full, windowed] = [ropesOf(({ window }) => window === null), ropesOf(({ window }) => window !== null)];
  refuseIf(full.length > 1 || windowed.length > 1, 'layers that differ in their positions alone');
  const [ofFull, ofWindowed] = [full, windowed].map(([rope]) => (rope === undefined ? undefined : ropes[rope]));
  return { ofFull, ofWindowed };
}

/** Checks besides that all layers have positions, which are not scaled in layers with a window. */
export function checkWindows(architecture: DecoderArchitecture, refuseIf: RefuseIf): RopesByWindow {
  const ropes = ropesByWindow(architecture, refuseIf);
  refuseIf(ropes.ofFull === null || ropes.ofWindowed === null, 'layers without positions');
  refuseIf((ropes.ofWindowed?.scaling ?? null) !== null, 'RoPE scaling of layers with a window');
  return ropes;
}
