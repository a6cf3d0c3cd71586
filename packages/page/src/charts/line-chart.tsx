import uPlot from 'uplot';
import 'uplot/dist/uPlot.min.css';
import type { ComponentChildren } from 'preact';
import { useEffect, useId, useMemo, useRef, useState } from 'preact/hooks';
import { ScrollRegion } from '../components/data-table.js';
import { useStore } from '../store.js';
import { theme } from '../theme.js';
import {
  type ChartAxis,
  type ChartLine,
  chartTable,
  lineText,
  numberText,
  positionText,
  STEP_AXIS,
} from './chart-values.js';

export interface LineChartProps {
  title: string;
  lines: readonly ChartLine[];
  /** A small one stands next to others: lower, and without a table. @defaultValue 'large' */
  size?: 'large' | 'small';
  /** @defaultValue steps */
  axis?: ChartAxis;
  /** True if values are drawn by their logarithm. */
  isLogarithmic?: boolean;
  /** Steps with a mark on the axis. */
  marks?: readonly number[] | undefined;
  /** Charts of one group show the values at the same step. */
  group?: string | undefined;
  /** Inputs that change the drawing. */
  controls?: ComponentChildren;
}

const HEIGHTS = { large: 300, small: 148 };
/** Steps are whole numbers, and so are the marks of their axis. */
const STEP_INCREMENTS = [...Array(8).keys()].flatMap((power) => [1, 2, 5].map((digit) => digit * 10 ** power));
const TABLE_ROWS = 20;

/** Values over steps. The canvas is for the eye; a sentence for each line and a table say the same. */
export function LineChart({
  title,
  lines,
  size = 'large',
  axis = STEP_AXIS,
  isLogarithmic = false,
  controls,
  ...drawn
}: LineChartProps) {
  const id = useId();
  const said = lines.filter(({ isDerived }) => isDerived !== true);
  const last = said[0]?.values.at(-1);
  return (
    <figure class={`card chart chart-${size}`} aria-labelledby={id}>
      <figcaption>
        <h3 id={id}>{title}</h3>
        {size === 'small' && last !== undefined && (
          <span class="chart-last" aria-hidden="true">
            {numberText(last)}
          </span>
        )}
        {controls}
        <div class="visually-hidden">
          {said.map((line) => (
            <p key={line.label}>{lineText(line)}</p>
          ))}
        </div>
      </figcaption>
      <Canvas lines={lines} size={size} axis={axis} isLogarithmic={isLogarithmic} {...drawn} />
      {size === 'large' && (
        <details class="chart-table">
          <summary>{title} as a table</summary>
          <ScrollRegion label={`Table of ${title}`}>
            <ChartTable title={title} lines={said} />
          </ScrollRegion>
        </details>
      )}
    </figure>
  );
}

type CanvasProps = Omit<LineChartProps, 'title' | 'controls'> &
  Required<Pick<LineChartProps, 'size' | 'axis' | 'isLogarithmic'>>;

function Canvas(props: CanvasProps) {
  const { lines, size, axis, isLogarithmic, marks } = props;
  const place = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | null>(null);
  // The marks are drawn with what is known then.
  const latest = useRef(props);
  latest.current = props;
  const colors = useColors();
  const shape = lines
    .map(({ label, shortLabel, color, range, hasMarks, stroke }) => [
      label,
      shortLabel,
      color,
      range !== undefined,
      hasMarks,
      stroke,
    ])
    .join('|');

  useEffect(() => {
    const target = place.current!;
    const options = optionsOf(latest.current, colors, target.clientWidth, () => latest.current);
    const created = new uPlot(options, dataOf(latest.current), target);
    plot.current = created;
    const observer = new ResizeObserver(() => created.setSize({ width: target.clientWidth, height: HEIGHTS[size] }));
    observer.observe(target);
    return () => {
      observer.disconnect();
      created.destroy();
      plot.current = null;
    };
  }, [shape, colors, axis.name, isLogarithmic, size]);
  useEffect(() => plot.current?.setData(dataOf(latest.current)), [lines, axis, marks]);
  return <div class="chart-canvas" ref={place} aria-hidden="true" />;
}

function optionsOf(props: CanvasProps, colors: ChartColors, width: number, now: () => CanvasProps): uPlot.Options {
  const { lines, size, axis, isLogarithmic, group } = props;
  const isSmall = size === 'small';
  const title = axis.name[0]!.toUpperCase() + axis.name.slice(1);
  const series: uPlot.Series[] = [
    {
      label: title,
      value: (plot, value: number | null | undefined) => {
        const position = value ?? plot.data[0]?.at(-1);
        return position == null ? '' : positionText(axis.name, position);
      },
    },
  ];
  const bands: uPlot.Band[] = [];
  for (const { label, shortLabel = label, color, range, hasMarks = false, stroke = 'line' } of lines) {
    if (range !== undefined) {
      // The legend has no entry for them: see style/charts.css.
      const edge: uPlot.Series = { class: 'chart-edge', points: { show: false }, spanGaps: true };
      bands.push({ series: [series.length, series.length + 1], fill: colors.band(color) });
      series.push(edge, edge);
    }
    const isThin = stroke === 'thin';
    series.push({
      label: shortLabel,
      stroke: isThin ? colors.faint(color) : colors.series(color),
      width: isThin ? 1 : 2,
      spanGaps: true,
      points: { show: hasMarks, size: 7, fill: colors.series(color) },
      value: (plot, value: number | null | undefined, index, at) => {
        const known = value ?? lastValue(plot.data[index], at);
        return known === undefined ? '' : numberText(known);
      },
    });
  }
  const common = {
    stroke: colors.text,
    font: '12px system-ui, sans-serif',
    grid: { stroke: colors.grid, width: 1 },
    ticks: { stroke: colors.grid, width: 1, size: 4 },
  };
  return {
    width: Math.max(width, 100),
    height: HEIGHTS[size],
    scales: { x: { time: false }, y: isLogarithmic ? { distr: 3 } : {} },
    padding: isSmall ? [8, 8, 8, 0] : [8, 16, 0, 0],
    axes: [
      {
        ...common,
        show: !isSmall,
        ...(axis.name === 'step' ? { incrs: STEP_INCREMENTS } : {}),
        space: 64,
        values: (_, ticks) => ticks.map((tick) => positionText(axis.name, tick)),
      },
      {
        ...common,
        size: isSmall ? 52 : 60,
        space: isSmall ? 28 : 36,
        values: (_, ticks) => ticks.map((tick) => (tick == null ? '' : numberText(tick))),
      },
    ],
    series,
    bands,
    legend: { show: !isSmall },
    cursor: { drag: { x: true, y: false }, ...(group === undefined ? {} : { sync: { key: group } }) },
    hooks: { draw: [(plot) => drawMarks(plot, now(), colors)] },
  };
}

/** The value that a line has at a point, or before it where it has none there. @param at - Null: its last one */
function lastValue(values: uPlot.AlignedData[number] | undefined, at: number | null | undefined): number | undefined {
  for (let index = at ?? (values?.length ?? 0) - 1; index >= 0; index--) {
    const value = values?.[index];
    if (value != null) return value;
  }
  return undefined;
}

/** A triangle on the axis for each mark. */
function drawMarks({ ctx, bbox, valToPos }: uPlot, { marks = [], axis }: CanvasProps, colors: ChartColors): void {
  const size = 5 * devicePixelRatio;
  const bottom = bbox.top + bbox.height;
  ctx.save();
  ctx.fillStyle = colors.text;
  for (const step of marks) {
    const x = valToPos(axis.at(step), 'x', true);
    if (x < bbox.left || x > bbox.left + bbox.width) continue;
    ctx.beginPath();
    ctx.moveTo(x, bottom - 1.6 * size);
    ctx.lineTo(x - size, bottom);
    ctx.lineTo(x + size, bottom);
    ctx.fill();
  }
  ctx.restore();
}

function dataOf({ lines, axis, isLogarithmic }: CanvasProps): uPlot.AlignedData {
  // Zero has no logarithm.
  const shown = (values: readonly number[]) =>
    isLogarithmic ? values.map((value) => (value > 0 ? value : null)) : [...values];
  const tables = lines.map(({ steps, values, range }) => {
    const edges = range === undefined ? [] : [shown(range.max), shown(range.min)];
    return [steps.map(axis.at), ...edges, shown(values)] as uPlot.AlignedData;
  });
  return tables.length === 0 ? [[]] : uPlot.join(tables);
}

function ChartTable({ title, lines }: Pick<LineChartProps, 'title' | 'lines'>) {
  const { steps, values } = chartTable(lines, TABLE_ROWS);
  return (
    <table class="plain-table">
      <caption class="visually-hidden">{title} by step</caption>
      <thead>
        <tr>
          <th scope="col">Step</th>
          {lines.map(({ label }) => (
            <th key={label} scope="col">
              {label}
            </th>
          ))}
        </tr>
      </thead>
      <tbody>
        {steps.map((step, row) => (
          <tr key={step}>
            <th scope="row">{step.toLocaleString('en-US')}</th>
            {values.map((column, index) => (
              <td key={lines[index]!.label}>{column[row] === null ? '–' : numberText(column[row]!)}</td>
            ))}
          </tr>
        ))}
      </tbody>
    </table>
  );
}

export interface ChartColors {
  text: string;
  grid: string;
  series: (number: number) => string;
  /** The same colour for a thin line behind another. */
  faint: (number: number) => string;
  /** The same colour for a band behind a line. */
  band: (number: number) => string;
}

/** The colours of the page as a canvas takes them, which change with the theme. */
function useColors(): ChartColors {
  const chosen = useStore(theme);
  const [systemIsDark, setDark] = useState(DARK.matches);
  useEffect(() => {
    const update = () => setDark(DARK.matches);
    DARK.addEventListener('change', update);
    return () => DARK.removeEventListener('change', update);
  }, []);
  return useMemo(
    () => ({
      text: colorOf('--muted'),
      grid: colorOf('--line'),
      series: (number) => colorOf(`--series-${number}`),
      faint: (number) => withOpacity(colorOf(`--series-${number}`), 0.4),
      band: (number) => withOpacity(colorOf(`--series-${number}`), 0.18),
    }),
    [chosen, systemIsDark],
  );
}

function withOpacity(color: string, opacity: number): string {
  return color.replace(/^rgb\((.*)\)$/, `rgba($1, ${opacity})`);
}

const DARK = window.matchMedia('(prefers-color-scheme: dark)');

/** A property can be `light-dark(…)`; the colour of an element is what it is now. */
function colorOf(property: string): string {
  const probe = document.createElement('span');
  probe.style.color = `var(${property})`;
  document.body.append(probe);
  const { color } = getComputedStyle(probe);
  probe.remove();
  return color;
}
