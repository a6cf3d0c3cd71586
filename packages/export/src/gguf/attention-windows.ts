import type { DecoderArchitecture, LayerAttention, RopeSettings } from '@lorasmith/model-folder';
import type { MetadataValue } from './gguf-layout.js';

/** Layers of the one release of EXAONE 4 (32B) for which llama.cpp has windows. */
const EXAONE4_32B_LAYERS = 64;

type Settings = [key: string, value: MetadataValue][];

/** Rotary settings of the layers with full attention, or else of the others; null if no layer has positions. */
export function mainRope({ ropes, attention }: DecoderArchitecture): RopeSettings | null {
  const of = (layers: readonly LayerAttention[]) => layers.flatMap(({ rope }) => ropes[rope] ?? [])[0];
  return of(attention.layers.filter(({ window }) => window === null)) ?? of(attention.layers) ?? null;
}

/** The window, the layers that have it, and the base of their rotary frequencies; nothing where no layer has one. */
export function windowSettings({ ropes, attention: { layers } }: DecoderArchitecture): Settings {
  const windowed = layers.find(({ window }) => window !== null);
  if (windowed === undefined) return [];
  const pattern = layers.map(({ window }) => window !== null);
  const rope = ropes[windowed.rope];
  return [
    ['attention.sliding_window', { type: 'uint32', value: windowed.window! }],
    ['attention.sliding_window_pattern', { type: 'bools', value: pattern }],
    ...(rope ? ([['rope.freq_base_swa', { type: 'float32', value: rope.theta }]] as Settings) : []),
  ];
}

/** Checks that windows, and positions of layers with and without one, are those that llama.cpp computes. */
export function checkWindows(
  architecture: DecoderArchitecture,
  refuseIf: (condition: boolean, what: string) => void,
): void {
  const { family, ropes, attention, layerCount } = architecture;
  const [full, windowed] = [true, false].map((isFull) =>
    attention.layers.filter(({ window }) => (window === null) === isFull),
  ) as [LayerAttention[], LayerAttention[]];
  const [ropesOfFull, ropesOfWindowed] = [full, windowed].map((layers) => {
    return [...new Set(layers.map(({ rope }) => rope))].map((rope) => ropes[rope] ?? null);
  }) as [(RopeSettings | null)[], (RopeSettings | null)[]];
  refuseIf(new Set(windowed.map(({ window }) => window)).size > 1, 'attention windows of several sizes');
  refuseIf(ropesOfFull.length > 1 || ropesOfWindowed.length > 1, 'layers that differ in their positions alone');
  const [ofFull, ofWindowed] = [ropesOfFull[0], ropesOfWindowed[0]];
  if (family === 'exaone4') {
    refuseIf(
      windowed.length > 0 && layerCount !== EXAONE4_32B_LAYERS,
      `attention windows unless there are ${EXAONE4_32B_LAYERS} layers (it ignores sliding_window, and rotates all layers)`,
    );
    refuseIf(windowed.length > 0 && ofFull !== null, 'positions in layers without a window beside layers with one');
    refuseIf(ofWindowed === null || (windowed.length === 0 && ofFull === null), 'layers without positions');
    return;
  }
  refuseIf(ofFull === null || ofWindowed === null, 'layers without positions');
  refuseIf((ofWindowed?.scaling ?? null) !== null, 'RoPE scaling of layers with a window');
  // It reads the base of their frequencies, and computes with that of the others.
  const hasOwnBase = family === 'olmo3' && ofFull && ofWindowed && ofFull.theta !== ofWindowed.theta;
  refuseIf(Boolean(hasOwnBase), 'rotary base of their own in layers with a window (rope_theta)');
  const isLinear = (ofFull?.scaling ?? null) === null || ofFull?.scaling?.type === 'linear';
  refuseIf(family === 'gemma3_text' && !isLinear, 'RoPE scaling but of the type linear');
}
