import { describe, expect, it } from "vitest";
import { faultsOf, fieldChanges } from "./transfer";

describe("the faults of a file", () => {
  it("name the place in the document", () => {
    expect(faultsOf([{ field: "document", message: "tenants.acme.weight: must be above 0" }])).toEqual([
      { field: "tenants.acme.weight", message: "must be above 0" },
    ]);
  });

  it("are the file's own where no place is known", () => {
    expect(faultsOf([{ field: "document", message: "is larger than 1048576 bytes" }])).toEqual([
      { field: "", message: "is larger than 1048576 bytes" },
    ]);
  });
});

describe("a change", () => {
  it("stands field by field, absent as a dash", () => {
    expect(fieldChanges({ before: { weight: 1 }, after: { weight: 3, maximum: "batch" } })).toEqual([
      { field: "weight", before: "1", after: "3" },
      { field: "maximum", before: "–", after: "batch" },
    ]);
  });
});
