"""The screens that show and steer: map, requests, policy, keys, palette; on the live fleet of the stack."""

from __future__ import annotations

import re

import pytest
import yaml
from playwright.sync_api import Locator, Page, expect

pytestmark = pytest.mark.browser


def picker(page: Page, label: str) -> Locator:
    return page.locator(".picker").filter(has_text=re.compile(f"^{label}")).locator("select")


def test_the_map_has_a_cell_per_instance_a_queue_and_a_twin(open_page, stack):
    stack.fleet.holding = True
    stack.fleet.add_large(stack.fleet.now)
    page = open_page(path="/cluster")
    for name in ("main-1", "main-4"):
        expect(page.get_by_role("region", name=name, exact=True)).to_contain_text("freeness")
    expect(page.get_by_role("img", name=re.compile(r"blocks used by \d+ requests")).first).to_be_visible()
    expect(page.get_by_text("largest placeable request", exact=False).first).to_be_visible()
    queue = page.get_by_label("queue", exact=True)
    expect(queue.get_by_role("row").filter(has_text="in front of the fleet").first).to_contain_text("tokens")
    stack.fleet.holding = False
    page.keyboard.press("t")
    expect(page.get_by_label("instances as a table")).to_be_visible()
    expect(page).to_have_url(re.compile("view=table"))


def test_the_selected_cell_and_every_filter_are_in_the_url(open_page):
    page = open_page(path="/cluster")
    page.get_by_role("region", name="main-2", exact=True).get_by_role("button", name="main-2").click()
    expect(page.get_by_label("selected instance")).to_contain_text("Drain main-2…")
    picker(page, "Fill by").select_option("used")
    page.reload()
    expect(page.get_by_label("selected instance")).to_contain_text("main-2")
    expect(picker(page, "Fill by")).to_have_value("used")


def test_the_list_of_requests_is_live_and_filtered_by_the_url(open_page):
    page = open_page(path="/requests?tenant=umbrella")
    table = page.get_by_role("table", name="live requests")
    expect(table.get_by_role("row").filter(has_text="umbrella").first).to_be_visible()
    expect(table.get_by_role("row").filter(has_text="globex")).to_have_count(0)
    picker(page, "Tenant").select_option("globex")
    expect(table.get_by_role("row").filter(has_text="globex").first).to_be_visible()
    expect(page).to_have_url(re.compile("tenant=globex"))


def test_a_policy_is_edited_previewed_activated_and_rolled_back(open_page):
    page = open_page("ada", path="/scheduling/policy")
    field = page.get_by_label(re.compile("^source threshold tokens"))
    field.fill("-5")
    field.press("Enter")
    expect(page.locator(".complaint")).to_be_visible()
    for value, version in (("200", "v1"), ("240", "v2")):
        field = page.get_by_label(re.compile("^source threshold tokens"))
        field.fill(value)
        field.press("Enter")
        page.get_by_label("destination threshold tokens").fill("400")
        page.get_by_label("destination threshold tokens").press("Enter")
        page.get_by_role("button", name="Diff").click()
        expect(page.locator(".diff .is-in").first).to_contain_text(value)
        page.get_by_role("button", name="Preview on the live fleet").click()
        expect(page.get_by_label("preview")).to_contain_text("On the fleet right now")
        page.get_by_role("button", name="Activate…").click()
        dialog = page.get_by_role("dialog")
        dialog.get_by_label("Reason").fill("relieve earlier")
        dialog.get_by_role("button", name=f"Activate {version}", exact=True).click()
        expect(page.get_by_text("The new policy of main is active.").last).to_be_visible()
        expect(page.get_by_label("policy", exact=True)).to_contain_text(f"main: {version}")
        page.get_by_role("button", name="Form").click()
    page.get_by_role("link", name="Versions").click()
    page.get_by_role("button", name="Roll back…").click()
    page.get_by_role("dialog").get_by_role("button", name="Roll back").click()
    expect(page.get_by_text("The earlier policy of main is active again.")).to_be_visible()
    active = page.get_by_label("versions").get_by_role("button").filter(has=page.get_by_label("active"))
    expect(active).to_contain_text("v1")
    page.get_by_role("button", name="Activate v2…").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_role("button", name="10 min").click()
    dialog.get_by_role("button", name="Activate v2 for 10 min").click()
    expect(page.get_by_text("v2 of main is active for 10 min; then v1 comes back.")).to_be_visible()
    page.get_by_role("link", name="Policy", exact=True).click()
    expect(page.get_by_text(re.compile("v2 is active until .* then v1 comes back"))).to_be_visible()


def test_the_time_range_goes_along_from_screen_to_screen_in_the_url(open_page):
    page = open_page(path="/audit")
    expect(page.get_by_label("audit entries")).to_be_visible()
    page.get_by_label("Time range of lists and sums").select_option("1h")
    expect(page).to_have_url(re.compile("range=1h"))
    page.get_by_role("link", name="Migrations").click()
    expect(page.get_by_label("history", exact=True)).to_contain_text("in the last hour")
    expect(page).to_have_url(re.compile("range=1h"))
    page.reload()
    expect(page.get_by_label("Time range of lists and sums")).to_have_value("1h")


def test_what_if_takes_a_file_of_ones_own_and_says_what_is_wrong_with_another(open_page, tmp_path):
    page = open_page(path="/scheduling/what-if")
    page.get_by_role("combobox", name="Traffic").click()
    page.get_by_role("option", name="A file of mine").click()
    file = page.get_by_label("CSV file")
    wrong = tmp_path / "wrong.csv"
    wrong.write_text("when,what\nnever,nothing\n")
    file.set_input_files(wrong)
    page.get_by_role("button", name="Compare").click()
    expect(page.get_by_label("what if").get_by_role("alert")).to_contain_text("wrong.csv")
    rows = [f"{number * 0.5},{100 + number},{20}" for number in range(40)]
    right = tmp_path / "right.csv"
    right.write_text("\n".join(["arrival_s,prompt_tokens,output_tokens", *rows]) + "\n")
    file.set_input_files(right)
    page.get_by_role("button", name="Compare").click()
    # No worker runs here; the real system carries one out.
    expect(page.get_by_label("comparison", exact=True)).to_contain_text("Waiting for a free worker")
    expect(page).to_have_url(re.compile("job="))


def test_an_owner_sees_the_own_tenant_alone_and_steers_what_is_the_owners(open_page):
    page = open_page("otto")
    expect(page.get_by_role("heading", name="globex", exact=True)).to_be_visible()
    expect(page.get_by_label("how it is served")).to_be_visible()
    expect(page.get_by_label("keys", exact=True)).to_be_visible()
    expect(page.get_by_role("navigation", name="Pages").get_by_role("link")).to_have_text(["globex"])
    for name in ("Change class", "Boost"):
        expect(page.get_by_role("button", name=re.compile(name))).to_contain_text("needs role operator")
    page.get_by_role("button", name="Make a key…").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("What for").fill("of the owner")
    dialog.get_by_role("button", name="Make the key").click()
    expect(dialog.locator("[data-once]")).to_be_visible()
    dialog.get_by_role("button", name="I have kept it").click()
    expect(page.get_by_label("keys", exact=True)).to_contain_text("of the owner")


def test_a_key_is_shown_once_and_revoked(open_page):
    page = open_page("ada", path="/tenants/hooli")
    page.get_by_role("button", name="Make a key…").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("What for").fill("browser test")
    dialog.get_by_role("button", name="Make the key").click()
    secret = dialog.locator("[data-once]")
    expect(secret).to_be_visible()
    raw = secret.inner_text()
    dialog.get_by_role("button", name="I have kept it").click()
    row = page.get_by_label("keys", exact=True).get_by_role("row").filter(has_text="browser test")
    expect(row).to_contain_text(raw[:6])
    assert raw not in page.content()
    row.get_by_role("button", name="Revoke…").click()
    page.get_by_role("dialog").get_by_role("button", name="Revoke the key").click()
    expect(row).to_contain_text("revoked")


def test_tenants_and_classes_leave_as_yaml_and_come_back_changed(open_page, tmp_path):
    page = open_page("ada", path="/tenants")
    with page.expect_download() as waiting:
        page.get_by_role("button", name="Export YAML").click()
    assert waiting.value.suggested_filename == "tenants.yaml"
    written = yaml.safe_load(waiting.value.path().read_text())
    written["tenants"]["umbrella"]["limits"] = {"tokens_per_minute": 123_456}
    page.get_by_role("button", name="Import…").click()
    dialog = page.get_by_role("dialog")
    file = tmp_path / "tenants.yaml"
    written["tenants"]["umbrella"]["weight"] = -1
    file.write_text(yaml.safe_dump(written))
    dialog.get_by_label("YAML file").set_input_files(file)
    dialog.get_by_role("button", name="Show what would change").click()
    expect(dialog.get_by_role("alert")).to_contain_text("Nothing was changed: 1 fault in the file.")
    expect(dialog.get_by_role("alert").locator("code")).to_have_text("tenants.umbrella.weight")
    written["tenants"]["umbrella"]["weight"] = 3
    file.write_text(yaml.safe_dump(written))
    dialog.get_by_label("YAML file").set_input_files(file)
    expect(dialog.get_by_role("alert")).to_be_hidden()
    dialog.get_by_role("button", name="Show what would change").click()
    changes = dialog.get_by_label("what would change")
    expect(changes).to_contain_text(re.compile("weight.*1.*→ 3"))
    expect(changes).to_contain_text("123456")
    dialog.get_by_role("button", name=re.compile("^Apply 2 changes")).click()
    expect(page.get_by_text("The file is applied: 2 changes.")).to_be_visible()
    page.get_by_role("link", name="umbrella", exact=True).click()
    expect(page.get_by_label("limits", exact=True)).to_contain_text("123,456")


def test_a_policy_as_yaml_names_the_field_that_is_wrong(open_page):
    page = open_page(path="/scheduling/policy?view=yaml")
    field = page.get_by_label("Policy as YAML")
    text = field.input_value()
    field.fill(re.sub(r"source_threshold_tokens: \S+", "source_threshold_tokens: -5", text))
    policy = page.get_by_label("policy", exact=True)
    expect(policy.get_by_role("alert")).to_contain_text("source_threshold_tokens")
    expect(page.get_by_role("button", name="Activate…")).to_contain_text("the draft is not valid")
    field.fill("dispatch: [")
    expect(policy.get_by_role("alert").first).to_contain_text("at line 1")


def test_the_palette_finds_pages_instances_and_acts(open_page):
    page = open_page()
    expect(page.get_by_label("situation")).to_be_visible()
    page.keyboard.press("Control+k")
    box = page.get_by_role("combobox", name="Search or act")
    box.fill("drain main-2")
    box.press("Enter")
    expect(page.get_by_role("dialog", name="Drain main-2?")).to_be_visible()
    page.keyboard.press("Escape")
    page.keyboard.press("Control+k")
    page.get_by_role("combobox", name="Search or act").fill("alerts")
    page.get_by_role("combobox", name="Search or act").press("Enter")
    expect(page.get_by_role("heading", name="Alerts", exact=True)).to_be_visible()


def test_no_style_or_script_is_refused_by_the_content_policy(open_page, stack):
    page = open_page("ada")
    refused: list[str] = []
    page.on("console", lambda line: refused.append(line.text) if "Content Security" in line.text else None)
    for path in ("/cluster", "/tenants?class=batch", "/scheduling/policy"):
        page.goto(stack.url + path)
        expect(page.get_by_role("heading", level=1)).to_be_visible()
    page.keyboard.press("Control+k")
    expect(page.get_by_role("combobox", name="Search or act")).to_be_visible()
    assert refused == []
