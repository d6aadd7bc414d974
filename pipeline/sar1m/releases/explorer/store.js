// The samples as columns. Metric columns and pictures are fetched when somebody asks for them.

const makeStore = (core) => {
  const facets = core.facets.map((facet) => ({ ...facet, codes: unpack(facet.codes) }));
  const byName = new Map(facets.map((facet) => [facet.name, facet]));
  byName.get("split").order = core.splits;
  const metrics = core.metrics.map((metric, number) => ({ ...metric, number, values: null }));
  const measuredOnes = metrics.filter((metric) => metric.known);
  return {
    ...core,
    ...Object.fromEntries(["index", "lon", "lat", "pictured"].map((name) => [name, unpack(core[name])])),
    facets,
    metrics,
    measuredOnes,
    split: byName.get("split"),
    products: Object.values(core.products).map(({ names, codes }) => ({ names, codes: unpack(codes) })),
    dates: { names: core.dates.names, codes: unpack(core.dates.codes) },
    text: (name, row) => byName.get(name).names[byName.get(name).codes[row]],
    metric: (name) => measuredOnes.find((metric) => metric.name === name),
    /** Promise of [sar, optical] of a row that has pictures. */
    pictureOf(row) {
      const number = this.pictured[row], each = settings.part_pictures;
      return part(numbered("pictures", number, each)).then((pairs) => pairs[number % each]);
    },
    /** Promise of a measured metric whose values are there. */
    async measuredBy(metric) {
      if (metric.values) return metric;
      const columns = await part(numbered("metrics", measuredOnes.indexOf(metric), core.part_metrics));
      if (!metric.values) metric.values = unpack(columns[metric.name]);
      delete columns[metric.name]; // its text is a third larger than its numbers
      return metric;
    },
  };
};
